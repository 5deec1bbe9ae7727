//! Giving a layer out and taking it back.
//!
//! Who writes gets the subvolume itself, as from the Go drivers; nothing is mounted for that. Who only reads gets a read-only bind mount of it, below the run home, which all readers share. It is there until the last
//! reference to the layer is given back.

use std::fs;
use std::io;
use std::path::PathBuf;

use graphdriver_core::trees::make_dirs;
use graphdriver_core::{
    Error, ErrorKind, FsMagic, FsMagicChecker, LayerId, MountChecker, MountOptions, Result, bind_read_only,
    unmount_lazily,
};

use crate::home::Home;
use crate::options::no_mount_options;

/// Takes a reference and tells where the layer is.
///
/// # Errors
/// `LayerUnknown`; `InvalidArgument` for mount options; `PermissionDenied` for a read-only mount without the privilege to mount; `Io`.
pub(crate) fn get(home: &Home, id: &LayerId, options: &MountOptions) -> Result<PathBuf> {
    if options.extra.iter().any(|option| option != "ro") {
        return Err(no_mount_options());
    }
    if !options.read_only && options.extra.is_empty() {
        acquire(home, "mount", id, options.persistent, || home.quotas.renew(id, &home.layers.layer(id)))?;
        return Ok(home.layers.layer(id));
    }
    acquire(home, "mount", id, options.persistent, || mount_for_readers(home, id))?;
    Ok(home.readers_mount(id))
}

/// Gives one reference back.
///
/// # Errors
/// `LayerUnknown`; `InvalidArgument` when there is none; `Io`.
pub(crate) fn put(home: &Home, id: &LayerId) -> Result<()> {
    home.layers.require("unmount", id)?;
    release(home, id)
}

/// Takes a reference to the layer; `prepare` runs while nobody else takes one, gives one back, or removes the layer.
///
/// # Errors
/// `LayerUnknown` when there is no such layer; `Io`; as `prepare`.
pub(crate) fn acquire(
    home: &Home,
    operation: &'static str,
    id: &LayerId,
    persistent: bool,
    prepare: impl FnOnce() -> Result<()>,
) -> Result<()> {
    home.layers.require(operation, id)?;
    home.references.acquire_each(id, persistent, || {
        // It may have been removed while its lock was waited for.
        home.layers.require(operation, id)?;
        prepare()
    })
}

/// Gives one reference back; with the last one, the readers' mount goes.
///
/// # Errors
/// `InvalidArgument` when there is none; `Io`.
pub(crate) fn release(home: &Home, id: &LayerId) -> Result<()> {
    home.references.release(id, &home.layers.layer(id), || unmount_for_readers(home, id))
}

/// Unmounts what readers left that were killed, and forgets their references.
///
/// # Errors
/// The first failure; all others are unmounted.
pub(crate) fn reclaim(home: &Home) -> Result<()> {
    let mut first = Ok(());
    for id in home.readers_mounts()? {
        let unmounted =
            home.references.while_unused(&id, &home.layers.layer(&id), || unmount_for_readers(home, &id));
        match unmounted {
            Err(error) if error.kind() == ErrorKind::LayerInUse => {}
            result => first = first.and(result),
        }
    }
    first
}

/// The layer's own lock is held.
fn mount_for_readers(home: &Home, id: &LayerId) -> Result<()> {
    let target = home.readers_mount(id);
    make_dirs(&target, 0o700)?;
    if FsMagicChecker::new([FsMagic::BTRFS]).is_mounted(&target)? {
        return Ok(());
    }
    bind_read_only(&home.layers.layer(id), &target)
}

/// The layer's own lock is held.
pub(crate) fn unmount_for_readers(home: &Home, id: &LayerId) -> Result<()> {
    let target = home.readers_mount(id);
    unmount_lazily(&target)?;
    match fs::remove_dir(&target) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("rmdir", target, error)),
        _ => Ok(()),
    }
}
