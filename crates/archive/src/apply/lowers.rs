//! What a directory is like in the layers below.

use std::ffi::CStr;
use std::path::Path;

use graphdriver_sys::xattr;
use nix::errno::Errno;

use super::metadata::{Metadata, Times, travels};
use super::options::WhiteoutMode;
use crate::error::{Error, Result};
use crate::id_map::Owner;
use crate::override_stat;
use crate::root::RootDir;
use crate::stack::{LayerDir, LayerStack, Shown};
use crate::whiteout::OverlayXattrs;
use crate::xattrs::Xattr;

/// Whether anything shows through from the layers below at `path`.
///
/// # Errors
/// The kind of the failed system call.
pub(crate) fn show(roots: &[RootDir], path: &Path, mode: WhiteoutMode) -> Result<bool> {
    Ok(!matches!(stack(roots, mode)?.show(path, false)?, Shown::Nothing))
}

/// What the uppermost layer that has the directory `path` gives it; `None` when none has, or what a layer has there hides those
/// below: a whiteout, an opaque directory, or something that is no directory.
///
/// # Errors
/// The kind of the failed system call.
pub(crate) fn directory(roots: &[RootDir], path: &Path, mode: WhiteoutMode) -> Result<Option<Metadata>> {
    let stack = stack(roots, mode)?;
    match stack.show(path, false)? {
        Shown::Dir(dirs) => dirs.first().map(|dir| metadata(&stack, dir, path)).transpose(),
        Shown::Nothing | Shown::File(..) => Ok(None),
    }
}

fn stack(roots: &[RootDir], mode: WhiteoutMode) -> Result<LayerStack> {
    Ok(match mode {
        WhiteoutMode::Overlay(namespace) => LayerStack::overlay(roots.to_vec(), namespace),
        WhiteoutMode::Execute => LayerStack::overlay(roots.to_vec(), OverlayXattrs::default()),
        WhiteoutMode::Aufs => LayerStack::aufs(roots.to_vec()),
        WhiteoutMode::Fuse => LayerStack::fuse_overlay(roots.to_vec())?,
    })
}

fn metadata(stack: &LayerStack, dir: &LayerDir, path: &Path) -> Result<Metadata> {
    let (stat, _) = stack.look_of(dir)?;
    // The uppermost of those found is always open.
    let fd = dir.kept().ok_or_else(|| Error::syscall("fstat", path, Errno::EBADF))?;
    let failed = |errno| Error::syscall("fgetxattr", path, errno);
    let mut xattrs = Vec::new();
    match xattr::flist(fd) {
        Ok(names) => {
            let stays = |name: &CStr| {
                travels(name.to_bytes()) && (name != override_stat::XATTR || !stack.has_notes())
            };
            for name in names.iter().filter(|name| stays(name)) {
                if let Some(value) = xattr::fget(fd, name).map_err(failed)? {
                    xattrs.push(Xattr { name: name.to_owned(), value });
                }
            }
        }
        Err(Errno::EOPNOTSUPP) => {}
        Err(errno) => return Err(failed(errno)),
    }
    Ok(Metadata {
        owner: Some(Owner { uid: stat.st_uid, gid: stat.st_gid }),
        mode: Some(stat.st_mode & 0o7777),
        xattrs,
        times: Some(Times::of_stat(&stat)),
        inherited_acl: false,
    })
}
