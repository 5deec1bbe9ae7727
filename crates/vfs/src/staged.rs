//! Layers in the making: copied and filled out of sight, then in place by one rename.

use std::fs::{DirBuilder, File};
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use graphdriver_archive::{self as archive, CopyOptions, RootDir};
use graphdriver_core::trees::{rename_new, set_label, set_mode, set_owner};
use graphdriver_core::{
    Applied, CreateOptions, Differ, DifferOutput, Error, ErrorKind, IdMaps, LayerApplyOptions, LayerId,
    Result, StagedLayer, TempDir, sync_dir,
};

use crate::diff::apply_options;
use crate::home::Home;
use crate::note::ParentNote;
use crate::reference::Reference;

/// Mode of the root directory of a layer without parent, as in containers/storage, whose users are root at least of a user namespace.
const BASE_MODE: u32 = 0o555;

/// The same for an ordinary user, who could not write to his own layer otherwise; as in Docker.
const ORDINARY_BASE_MODE: u32 = 0o755;

/// A layer without a name. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Staged {
    home: Arc<Home>,
    temp_dir: TempDir,
    note: Option<ParentNote>,
    /// Keeps the parent until the layer has its place.
    _parent: Option<Reference>,
    applied: Applied,
}

impl Staged {
    /// A copy of the parent, or an empty layer.
    ///
    /// # Errors
    /// `ParentUnknown`; `InvalidArgument` for limits of a read-only layer; `NotSupported` for limits that cannot be had here; `NoSpace`; `PermissionDenied` where the parent's owners cannot be set; `Io`. Nothing remains.
    pub(crate) fn new(home: &Arc<Home>, options: &CreateOptions) -> Result<Self> {
        let parent = options.parent.as_ref().map(|parent| take_parent(home, parent)).transpose()?;
        let mut staged = Self {
            home: Arc::clone(home),
            temp_dir: home.temp_dirs.create()?,
            note: None,
            _parent: parent,
            applied: Applied::default(),
        };
        let root = staged.make_root()?;
        home.quotas.begin(&root, options)?;
        match &options.parent {
            None => staged.dress_base(&root, &options.id_maps)?,
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

    fn dress_base(&self, root: &RootDir, id_maps: &IdMaps) -> Result<()> {
        // The root of no particular container is whoever makes the layer, if that is not the machine's root.
        let lenient = self.home.options.ignore_chown_errors || id_maps.is_identity();
        set_owner(root, id_maps.root()?, lenient)?;
        set_mode(root.path(), if self.home.overrides_modes { BASE_MODE } else { ORDINARY_BASE_MODE })
    }

    fn copy(&mut self, parent: &LayerId, root: &RootDir) -> Result<()> {
        let from = self.home.layers.open("create", parent)?;
        let options = CopyOptions { method: self.home.copy, in_user_namespace: self.home.in_user_namespace };
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

    /// Unpacks `tar` into it.
    ///
    /// # Errors
    /// As [`archive::apply`].
    pub(crate) fn fill(&mut self, tar: &mut dyn Read, options: &LayerApplyOptions) -> Result<()> {
        let root = RootDir::open(self.path())?;
        self.applied = archive::apply(&root, tar, &apply_options(&self.home, options))
            .map_err(|error| self.home.quotas.explain(error.into(), &root))?;
        self.home.options.sync.flush(&root).map_err(|error| error.path(root.path()))
    }

    /// Lets `differ` fill it.
    ///
    /// # Errors
    /// As the differ.
    pub(crate) fn fill_with(
        &mut self,
        differ: &mut dyn Differ,
        options: &LayerApplyOptions,
    ) -> Result<DifferOutput> {
        let root = RootDir::open(self.path())?;
        let output = differ
            .fill(&root, &apply_options(&self.home, options))
            .map_err(|error| self.home.quotas.explain(error, &root))?;
        self.applied = output.applied;
        self.home.options.sync.flush(&root).map_err(|error| error.path(root.path()))?;
        Ok(output)
    }

    /// Gives the layer its name.
    ///
    /// # Errors
    /// `LayerExists`; `ParentUnknown` when another program removed the parent meanwhile; `Io`. Nothing remains.
    pub(crate) fn publish(self, id: &LayerId) -> Result<()> {
        let home = &self.home;
        let _lock = home.lock()?;
        if home.layers.exists(id)? {
            return Err(Error::layer_exists("create", id));
        }
        if let Some(note) = &self.note {
            require_parent(home, &note.parent)?;
        }
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
        // The layer is there; whether its name survives a power cut right now is all that is in doubt.
        let dir = home.layers.path();
        let synced = File::open(dir).map_err(|error| Error::io("open", dir, error)).and_then(sync_dir);
        if let Err(error) = synced {
            tracing::warn!(layer = %id, error = %error.report(), "the name of a new layer may not survive a power cut");
        }
        Ok(())
    }
}

impl StagedLayer for Staged {
    fn applied(&self) -> Applied {
        self.applied
    }

    fn commit(self: Box<Self>, id: &LayerId) -> Result<()> {
        self.publish(id)
    }
}

fn take_parent(home: &Arc<Home>, parent: &LayerId) -> Result<Reference> {
    Reference::take(home, "create", parent).map_err(|error| match error.kind() {
        ErrorKind::LayerUnknown => Error::parent_unknown("create", parent),
        _ => error,
    })
}

fn require_parent(home: &Home, parent: &LayerId) -> Result<()> {
    if home.layers.exists(parent)? { Ok(()) } else { Err(Error::parent_unknown("create", parent)) }
}
