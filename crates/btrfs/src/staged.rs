//! Layers in the making: made and filled out of sight, then in place by one rename.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use graphdriver_archive::{self as archive, RootDir};
use graphdriver_core::trees::{rename_new, set_label, set_mode, set_owner};
use graphdriver_core::{
    Applied, CreateOptions, Differ, DifferOutput, Error, ErrorKind, IdMaps, LayerApplyOptions, LayerId,
    Result, StagedLayer, TempDir, sync_dir,
};
use graphdriver_sys::btrfs::subvolume::SubvolumeFlags;

use crate::fill::apply_options;
use crate::home::Home;
use crate::quotas;
use crate::reference::Reference;
use crate::subvolume;

/// Mode of the root directory of a layer without parent, as in containers/storage, whose users are root at least of a user namespace.
const BASE_MODE: u32 = 0o555;

/// The same for an ordinary user, who could not write to his own layer otherwise; as in Docker.
const ORDINARY_BASE_MODE: u32 = 0o755;

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
    parent: Option<(LayerId, Reference)>,
    applied: Applied,
}

impl Staged {
    /// A snapshot of the parent, or an empty subvolume.
    ///
    /// # Errors
    /// `ParentUnknown`; `InvalidArgument` for limits of a read-only layer, or below the least one; `NotSupported` for limits that cannot be had here; `NoSpace`; `PermissionDenied` where the parent belongs to
    /// somebody else; `Io`. Nothing remains.
    pub(crate) fn new(home: &Arc<Home>, options: &CreateOptions) -> Result<Self> {
        let limit = home.quotas.limit_of(options)?;
        let parent = options.parent.as_ref().map(|parent| take_parent(home, parent)).transpose()?;
        let temp_dir = home.temp_dirs.create()?;
        let root = match &parent {
            None => {
                let root = subvolume::create(temp_dir.dir(), LAYER)?;
                dress_base(home, &root, &options.id_maps)?;
                root
            }
            Some((parent, _)) => {
                let from = home.layers.open("create", parent)?;
                subvolume::snapshot(temp_dir.dir(), LAYER, &from, SubvolumeFlags::empty())?
            }
        };
        home.quotas.begin(&root, limit)?;
        if let Some(label) = &options.label {
            set_label(&root, label)?;
        }
        Ok(Self { home: Arc::clone(home), temp_dir, limit, parent, applied: Applied::default() })
    }

    fn path(&self) -> PathBuf {
        self.temp_dir.path().join(LAYER)
    }

    /// Unpacks `tar` into it.
    ///
    /// # Errors
    /// As [`archive::apply`].
    pub(crate) fn fill(&mut self, tar: &mut dyn Read, options: &LayerApplyOptions) -> Result<()> {
        let root = RootDir::open(self.path())?;
        self.applied = archive::apply(&root, tar, &apply_options(&self.home, options))
            .map_err(|error| self.explain(error.into()))?;
        self.flush(&root)
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
        let output =
            differ.fill(&root, &apply_options(&self.home, options)).map_err(|error| self.explain(error))?;
        self.applied = output.applied;
        self.flush(&root)?;
        Ok(output)
    }

    fn flush(&self, root: &RootDir) -> Result<()> {
        self.home.options.sync.flush(root).map_err(|error| self.explain(error.path(root.path())))
    }

    fn explain(&self, error: Error) -> Error {
        quotas::explain(error, self.limit)
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
        if let Some((parent, _)) = &self.parent
            && !home.layers.exists(parent)?
        {
            return Err(Error::parent_unknown("create", parent));
        }
        // Before the layer is there, so that it never is without; a note without a layer is nothing.
        home.quotas.note(id, self.limit)?;
        if let Err(error) = rename_new(&self.path(), &home.layers.layer(id), id) {
            if let Err(error) = home.quotas.forget(id) {
                tracing::warn!(error = %error.report(), "the limit of a layer that was not made stays");
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

fn take_parent(home: &Arc<Home>, parent: &LayerId) -> Result<(LayerId, Reference)> {
    match Reference::take(home, "create", parent) {
        Ok(reference) => Ok((parent.clone(), reference)),
        Err(error) if error.kind() == ErrorKind::LayerUnknown => Err(Error::parent_unknown("create", parent)),
        Err(error) => Err(error),
    }
}

fn dress_base(home: &Home, root: &RootDir, id_maps: &IdMaps) -> Result<()> {
    // The root of no particular container is whoever makes the layer, if that is not the machine's root.
    let lenient = home.options.ignore_chown_errors || id_maps.is_identity();
    set_owner(root, id_maps.root()?, lenient)?;
    set_mode(root.path(), if home.overrides_modes { BASE_MODE } else { ORDINARY_BASE_MODE })
}
