//! Mounting a layer and giving it back.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use graphdriver_core::{Error, LayerId, MountOptions, Result, unmount_lazily};
use nix::mount::{MsFlags, mount};

use crate::home::Home;
use crate::kernel;
use crate::mount::{AufsMount, has_dirperm1};
use crate::options::parse_flags;

/// Mounts the layer unless it is, takes a reference, and returns where it is mounted: a base layer's branch as a bind mount, which takes no AUFS, others by AUFS.
///
/// # Errors
/// `LayerUnknown`; `InvalidArgument` for mount options that are not known; `NotSupported` without AUFS in the kernel; as mounting.
pub(crate) fn get(home: &Home, id: &LayerId, options: &MountOptions) -> Result<PathBuf> {
    let mut flags = parse_flags(&options.extra)?;
    if options.read_only {
        flags |= MsFlags::MS_RDONLY;
    }
    home.require("mount", id)?;
    let target = home.mount_point(id);
    home.references.acquire(id, &target, options.persistent, || {
        // It may have been removed while its lock was waited for.
        let ancestors = home.ancestors("mount", id)?;
        ensure_dir(&target)?;
        let upper = home.diff(id);
        if ancestors.is_empty() {
            return bind(&upper, &target, flags);
        }
        kernel::require()?;
        let lowers: Vec<PathBuf> = ancestors.iter().map(|id| home.diff(id)).collect();
        let mount = AufsMount {
            upper: &upper,
            lowers: &lowers,
            target: &target,
            flags,
            options: home.options.mount_options.as_deref(),
            label: options.label.as_deref(),
            dirperm1: has_dirperm1(home),
        };
        mount.attach()
    })?;
    Ok(target)
}

/// Gives one reference back; the last one unmounts.
///
/// # Errors
/// `LayerUnknown`; `InvalidArgument` when nobody holds a reference; `Io` when unmounting failed.
pub(crate) fn put(home: &Home, id: &LayerId) -> Result<()> {
    home.require("unmount", id)?;
    home.release(id)
}

fn bind(source: &Path, target: &Path, flags: MsFlags) -> Result<()> {
    let call = |source: Option<&Path>, flags| {
        mount(source, target, None::<&str>, flags, None::<&str>)
            .map_err(|errno| Error::syscall("mount", target, errno))
    };
    call(Some(source), MsFlags::MS_BIND)?;
    let finished = call(None, MsFlags::MS_PRIVATE).and_then(|()| {
        if flags.is_empty() {
            return Ok(());
        }
        call(None, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags)
    });
    finished.inspect_err(|_| {
        if let Err(error) = unmount_lazily(target) {
            tracing::warn!(error = %error.report(), "a mount that is not as it was asked for stays");
        }
    })
}

fn ensure_dir(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().mode(0o755).create(path).map_err(|error| Error::io("mkdir", path, error))
        }
        _ => Ok(()),
    }
}
