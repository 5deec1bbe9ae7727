//! Mounting a layer and giving it back; keeping one that need not be mounted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use graphdriver_core::trees::{list_ids, make_dirs};
use graphdriver_core::{ErrorKind, LayerId, MountOptions, Result, unmount_lazily};

use crate::home::Home;
use crate::mount::{DatasetMount, make_writable};

/// Mounts the layer unless it is, takes a reference, and returns where it is mounted.
///
/// # Errors
/// `LayerUnknown`; `InvalidArgument` for mount options that are not known; as [`DatasetMount::attach`].
pub(crate) fn mount(
    home: &Home,
    operation: &'static str,
    id: &LayerId,
    options: &MountOptions,
) -> Result<PathBuf> {
    let mut words = home.options.mount.and(options.extra.iter().map(String::as_str))?;
    if options.read_only {
        words = words.read_only();
    }
    let target = home.mount_point(id);
    let label = options.label.as_deref().filter(|label| !label.is_empty());
    home.references.acquire(id, &target, options.persistent, || {
        // It may have been removed while its lock was waited for.
        let dataset = home.require(operation, id)?;
        make_dirs(&target, 0o755)?;
        let mounted = DatasetMount { dataset: &dataset, words: &words, label }.attach(&target);
        if mounted.is_err() {
            remove_mount_point(&target);
        }
        mounted
    })?;
    if !words.is_read_only()
        && let Err(error) = make_writable(&target)
    {
        release(home, id)?;
        return Err(error);
    }
    Ok(target)
}

/// Takes a reference to a layer that need not be mounted.
///
/// # Errors
/// `LayerUnknown` when there is no such layer; `Io`.
pub(crate) fn keep(home: &Home, operation: &'static str, id: &LayerId) -> Result<()> {
    home.references.acquire(id, &home.mount_point(id), false, || home.require(operation, id).map(drop))
}

/// Gives one reference back; the last one unmounts.
///
/// # Errors
/// `LayerUnknown`; `InvalidArgument` when nobody holds a reference; `Io` when unmounting failed.
pub(crate) fn put(home: &Home, id: &LayerId) -> Result<()> {
    match release(home, id) {
        // Who has a reference has a layer; it is only asked for where there is none.
        Err(error) if error.kind() == ErrorKind::InvalidArgument => {
            home.require("unmount", id)?;
            Err(error)
        }
        released => released,
    }
}

/// Like [`put`], for a reference that there is.
///
/// # Errors
/// `InvalidArgument` when there is none; `Io` when unmounting failed.
pub(crate) fn release(home: &Home, id: &LayerId) -> Result<()> {
    let target = home.mount_point(id);
    home.references.release(id, &target, || unmount(&target))
}

/// Unmounts the layer, and takes the mount point away. The layer's own lock is held.
pub(crate) fn unmount(target: &Path) -> Result<()> {
    unmount_lazily(target)?;
    remove_mount_point(target);
    Ok(())
}

/// Takes away the directory that a layer is mounted on. The layer's own lock is held.
pub(crate) fn remove_mount_point(target: &Path) {
    match fs::remove_dir(target) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::debug!(?target, %error, "the directory of a mount stays");
        }
        _ => {}
    }
}

/// Unmounts layers whose processes were killed.
///
/// # Errors
/// `Io`; the first failure is told, all else is unmounted.
pub(crate) fn unmount_abandoned(home: &Home) -> Result<()> {
    let mut first = Ok(());
    for (id, _) in list_ids(home.mounts_dir())? {
        let target = home.mount_point(&id);
        let reclaimed = home.references.reclaim(&id, &target, || unmount(&target));
        first = first.and(reclaimed.map(drop));
    }
    first
}
