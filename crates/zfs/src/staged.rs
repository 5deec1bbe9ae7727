//! Layers in the making: datasets with a name that no layer has, then renamed.

use std::fs;
use std::sync::Arc;

use graphdriver_archive::RootDir;
use graphdriver_core::trees::{Reference, StagedTree, dress_base, set_label};
use graphdriver_core::{CreateOptions, Error, ErrorKind, LayerId, Quota, Result, TempDir, format_size};

use crate::command::{Failure, Reason};
use crate::dataset::Dataset;
use crate::home::Home;
use crate::mount::DatasetMount;
use crate::mount_options::MountWords;

/// A layer without a name. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Staged {
    home: Arc<Home>,
    dataset: Dataset,
    quota: Option<u64>,
    /// Whether the dataset is there and still has its temporary name.
    is_aside: bool,
    /// Keeps the parent until the layer has its place.
    _parent: Option<Reference<Home>>,
    /// Dropped last: while it is there, others know that the dataset is somebody's.
    temp_dir: TempDir,
}

impl Staged {
    /// A clone of the parent, or an empty dataset.
    ///
    /// # Errors
    /// `ParentUnknown`; `InvalidArgument` for limits of a read-only layer; `NotSupported` for a limit of inodes; `NoSpace`; `PermissionDenied`; `Command`; `Io`. Nothing remains.
    pub(crate) fn new(home: &Arc<Home>, options: &CreateOptions) -> Result<Self> {
        let quota = limit(options, home.options.quota)?;
        let parent = options.parent.as_ref().map(|parent| Reference::of_parent(home, parent)).transpose()?;
        let temp_dir = home.temp_dirs.create()?;
        let dataset = home.pool.parent.child(&home.temp_names.aside(&temp_dir))?;
        let mut staged =
            Self { home: Arc::clone(home), dataset, quota, is_aside: true, _parent: parent, temp_dir };
        staged.make(options)?;
        Ok(staged)
    }

    fn make(&mut self, options: &CreateOptions) -> Result<()> {
        let pool = &self.home.pool;
        let made = match &options.parent {
            None => pool.create(&self.dataset, self.quota),
            Some(parent) => {
                let snapshot = self.home.temp_names.snapshot(&self.temp_dir);
                pool.clone(&self.home.dataset(parent)?, &snapshot, &self.dataset, self.quota)
            }
        };
        made.map_err(|failure| match (failure.reason, &options.parent) {
            // By another program, since we keep it.
            (Reason::Missing, Some(parent)) => Error::parent_unknown("create", parent).source(failure),
            _ => failure.during("create"),
        })?;
        if options.parent.is_some() && options.label.is_none() {
            return Ok(());
        }
        let root = self.open()?;
        if options.parent.is_none() {
            dress_base(&root, &options.id_maps, false, true)?;
        }
        options.label.as_deref().map_or(Ok(()), |label| set_label(&root, label))
    }
}

impl StagedTree for Staged {
    /// Its files, mounted for us alone.
    fn open(&self) -> Result<RootDir> {
        open_aside(&self.dataset, &self.temp_dir)
    }

    fn explain(&self, error: Error, _root: &RootDir) -> Error {
        explain(error, self.quota)
    }

    /// # Errors
    /// `LayerExists`; `InvalidArgument` for an id that cannot be part of a dataset's name; `Command`.
    fn publish(mut self, id: &LayerId) -> Result<()> {
        let dataset = self.home.dataset(id)?;
        let renamed = {
            let _lock = self.home.lock()?;
            self.home.pool.rename(&self.dataset, &dataset)
        };
        renamed.map_err(|failure| exists_or(failure, id))?;
        self.is_aside = false;
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.is_aside {
            return;
        }
        if let Err(failure) = self.home.pool.destroy(&self.dataset) {
            tracing::warn!(%failure, "a dataset stays until the home is opened again");
        }
    }
}

/// Mounts a dataset for us alone; `temp_dir` lends a place where the kernel needs one.
///
/// # Errors
/// As [`DatasetMount::detached`].
pub(crate) fn open_aside(dataset: &Dataset, temp_dir: &TempDir) -> Result<RootDir> {
    let place = temp_dir.path().join("mount");
    match fs::create_dir(&place) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Error::io("mkdir", &place, error));
        }
        _ => {}
    }
    DatasetMount { dataset, words: &MountWords::default(), label: None }.detached(&place)
}

/// Names the limit, if `error` may come from it.
pub(crate) fn explain(error: Error, quota: Option<u64>) -> Error {
    match quota {
        Some(bytes) if error.kind() == ErrorKind::NoSpace => {
            error.detail(format!("the layer is limited to {}", format_size(bytes)))
        }
        _ => error,
    }
}

/// The bytes that a new layer may take; zero is no limit, as for ZFS.
fn limit(options: &CreateOptions, defaults: Quota) -> Result<Option<u64>> {
    let Some(limits) = options.limits(defaults)? else { return Ok(None) };
    if limits.inodes.is_some_and(|inodes| inodes > 0) {
        return Err(Error::new(ErrorKind::NotSupported, "create")
            .detail("inodes cannot be limited: a dataset of ZFS has a limit of bytes only"));
    }
    Ok(limits.bytes.filter(|bytes| *bytes > 0))
}

fn exists_or(failure: Failure, id: &LayerId) -> Error {
    match failure.reason {
        Reason::Exists => Error::layer_exists("create", id).source(failure),
        _ => failure.during("create"),
    }
}
