//! Layers in the making: made out of sight and filled there, then in place by one rename.

use std::path::PathBuf;
use std::sync::Arc;

use graphdriver_archive::RootDir;
use graphdriver_core::trees::{Reference, StagedTree, dress_base, rename_new, set_label};
use graphdriver_core::{CreateOptions, Error, LayerId, Result, TempDir};
use graphdriver_sys::btrfs::subvolume::SubvolumeFlags;

use crate::home::Home;
use crate::quotas;
use crate::subvolume;

/// In the temporary directory.
const LAYER: &str = "layer";

/// A layer without a name. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Staged {
    home: Arc<Home>,
    temp_dir: TempDir,
    /// The limit in bytes.
    limit: Option<u64>,
    /// Keeps the parent until the layer has its place.
    parent: Option<Reference<Home>>,
}

impl Staged {
    /// A snapshot of the parent, or an empty subvolume.
    ///
    /// # Errors
    /// `ParentUnknown`; `InvalidArgument` for limits of a read-only layer, or below the least one; `NotSupported` for limits that cannot be had here; `NoSpace`; `PermissionDenied` where the parent belongs to
    /// somebody else; `Io`. Nothing remains.
    pub(crate) fn new(home: &Arc<Home>, options: &CreateOptions) -> Result<Self> {
        let limit = home.quotas.limit_of(options)?;
        let parent = options.parent.as_ref().map(|parent| Reference::of_parent(home, parent)).transpose()?;
        let temp_dir = home.temp_dirs.create()?;
        let root = match &parent {
            None => {
                let root = subvolume::create(temp_dir.dir(), LAYER)?;
                let lenient = home.options.ignore_chown_errors;
                dress_base(&root, &options.id_maps, lenient, home.overrides_modes)?;
                root
            }
            Some(parent) => {
                let from = home.layers.open_parent(parent.id())?;
                subvolume::snapshot(temp_dir.dir(), LAYER, &from, SubvolumeFlags::empty())?
            }
        };
        home.quotas.begin(&root, limit)?;
        if let Some(label) = &options.label {
            set_label(&root, label)?;
        }
        Ok(Self { home: Arc::clone(home), temp_dir, limit, parent })
    }

    fn path(&self) -> PathBuf {
        self.temp_dir.path().join(LAYER)
    }
}

impl StagedTree for Staged {
    fn open(&self) -> Result<RootDir> {
        Ok(RootDir::open(self.path())?)
    }

    fn explain(&self, error: Error, _root: &RootDir) -> Error {
        quotas::explain(error, self.limit)
    }

    fn publish(self, id: &LayerId) -> Result<()> {
        let home = &self.home;
        let _lock = home.lock()?;
        home.layers.require_room(id, self.parent.as_ref().map(Reference::id))?;
        // Before the layer is there, so that it never is without; a note without a layer is nothing.
        home.quotas.note(id, self.limit)?;
        if let Err(error) = rename_new(&self.path(), &home.layers.layer(id), id) {
            if let Err(error) = home.quotas.forget(id) {
                tracing::warn!(error = %error.report(), "the limit of a layer that was not made stays");
            }
            return Err(error);
        }
        home.layers.flush_name(id);
        Ok(())
    }
}
