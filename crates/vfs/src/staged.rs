//! Layers in the making: copied out of sight and filled there, then in place by one rename.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use graphdriver_archive::{self as archive, CopyOptions, RootDir};
use graphdriver_core::trees::{Reference, StagedTree, dress_base, rename_new, set_label};
use graphdriver_core::{CreateOptions, Error, LayerId, Result, TempDir};

use crate::home::Home;
use crate::note::ParentNote;

/// A layer without a name. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Staged {
    home: Arc<Home>,
    temp_dir: TempDir,
    note: Option<ParentNote>,
    /// Keeps the parent until the layer has its place.
    _parent: Option<Reference<Home>>,
}

impl Staged {
    /// A copy of the parent, or an empty layer.
    ///
    /// # Errors
    /// `ParentUnknown`; `InvalidArgument` for limits of a read-only layer; `NotSupported` for limits that cannot be had here; `NoSpace`; `PermissionDenied` where the parent's owners cannot be set; `Io`. Nothing remains.
    pub(crate) fn new(home: &Arc<Home>, options: &CreateOptions) -> Result<Self> {
        let parent = options.parent.as_ref().map(|parent| Reference::of_parent(home, parent)).transpose()?;
        let mut staged =
            Self { home: Arc::clone(home), temp_dir: home.temp_dirs.create()?, note: None, _parent: parent };
        let root = staged.make_root()?;
        home.quotas.begin(&root, options)?;
        match &options.parent {
            None => {
                let lenient = home.options.ignore_chown_errors;
                dress_base(&root, &options.id_maps, lenient, home.overrides_modes)?;
            }
            Some(parent) => staged.copy(parent, &root)?,
        }
        if let Some(label) = &options.label {
            set_label(&root, label)?;
        }
        Ok(staged)
    }

    fn path(&self) -> PathBuf {
        self.temp_dir.path().join("layer")
    }

    fn make_root(&self) -> Result<RootDir> {
        let path = self.path();
        DirBuilder::new().mode(0o700).create(&path).map_err(|error| Error::io("mkdir", &path, error))?;
        Ok(RootDir::open(path)?)
    }

    fn copy(&mut self, parent: &LayerId, root: &RootDir) -> Result<()> {
        let from = self.home.layers.open_parent(parent)?;
        let options = CopyOptions {
            method: self.home.copy,
            in_user_namespace: self.home.in_user_namespace,
            ..CopyOptions::default()
        };
        archive::copy_tree(&from, root, &options)
            .map_err(|error| self.home.quotas.explain(error.into(), root))?;
        self.note = Some(ParentNote { parent: parent.clone(), copied_at: self.file_system_time()? });
        Ok(())
    }

    /// Now, by the clock that stamps the files of the home: no file that was made before has a later time, and none that is changed from now on an earlier one.
    fn file_system_time(&self) -> Result<SystemTime> {
        let path = self.temp_dir.path().join("now");
        let failed = |error| Error::io("create", &path, error);
        File::create(&path).and_then(|file| file.metadata()?.modified()).map_err(failed)
    }
}

impl StagedTree for Staged {
    fn open(&self) -> Result<RootDir> {
        Ok(RootDir::open(self.path())?)
    }

    fn explain(&self, error: Error, root: &RootDir) -> Error {
        self.home.quotas.explain(error, root)
    }

    fn publish(self, id: &LayerId) -> Result<()> {
        let home = &self.home;
        let _lock = home.lock()?;
        home.layers.require_room(id, self.note.as_ref().map(|note| &note.parent))?;
        // Before the layer is there, so that it never is without; a note without a layer is nothing.
        home.set_note(id, self.note.as_ref())?;
        let (from, to) = (self.path(), home.layers.layer(id));
        let renamed = home.relocate(&from, || rename_new(&from, &to, id).map(|()| to.clone()));
        if let Err(error) = renamed {
            if let Err(error) = home.remove_note(id) {
                tracing::warn!(error = %error.report(), "the note of a layer that was not made stays");
            }
            return Err(error);
        }
        home.layers.flush_name(id);
        Ok(())
    }
}
