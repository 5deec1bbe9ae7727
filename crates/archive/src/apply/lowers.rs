//! What a directory is like in the layers below.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use graphdriver_sys::xattr;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fstat};

use super::metadata::{Metadata, Times, travels};
use super::options::WhiteoutMode;
use crate::error::{Error, Result};
use crate::id_map::Owner;
use crate::lowers::{Below, LayerForm, Lowers};
use crate::root::RootDir;
use crate::whiteout::OverlayXattrs;
use crate::xattrs::Xattr;

/// Whether anything shows through from the layers below at `path`.
///
/// # Errors
/// The kind of the failed system call.
pub(super) fn show(roots: &[RootDir], path: &Path, mode: WhiteoutMode) -> Result<bool> {
    Ok(!matches!(find(roots, path, mode)?, Below::Nothing))
}

/// What the uppermost layer that has the directory `path` gives it; `None` when none has, or what a layer has there hides those
/// below: a whiteout, an opaque directory, or something that is no directory.
///
/// # Errors
/// The kind of the failed system call.
pub(super) fn directory(roots: &[RootDir], path: &Path, mode: WhiteoutMode) -> Result<Option<Metadata>> {
    let merged = if path.as_os_str().is_empty() {
        (0..roots.len()).collect()
    } else if let Below::Dir { merged, .. } = find(roots, path, mode)? {
        merged
    } else {
        return Ok(None);
    };
    merged.first().map(|index| metadata(&roots[*index], path)).transpose()
}

/// What shows through at `path`, which is not the root.
fn find(roots: &[RootDir], path: &Path, mode: WhiteoutMode) -> Result<Below> {
    let form = match mode {
        WhiteoutMode::Overlay(namespace) => LayerForm::Overlay(namespace),
        WhiteoutMode::Execute => LayerForm::Overlay(OverlayXattrs::default()),
        WhiteoutMode::Aufs => LayerForm::Aufs,
        WhiteoutMode::Fuse => LayerForm::Fuse,
    };
    let lowers = Lowers::new(roots.to_vec(), form);
    let mut found = Below::Nothing;
    let mut merged = lowers.all();
    let mut above = PathBuf::new();
    for component in path {
        let name = CString::new(component.as_bytes())
            .map_err(|_| Error::invalid_archive("a name has a NUL byte").path(path))?;
        let directory = lowers.open(above.as_os_str().as_bytes(), &merged)?;
        above.push(component);
        found = directory.below(&name).map_err(|errno| Error::syscall("fstatat", &above, errno))?;
        match &found {
            Below::Dir { merged: below, .. } => merged.clone_from(below),
            // Nothing lies below what is no directory.
            Below::Nothing | Below::File if above != path => return Ok(Below::Nothing),
            Below::Nothing | Below::File => {}
        }
    }
    Ok(found)
}

fn metadata(lower: &RootDir, path: &Path) -> Result<Metadata> {
    let fd = lower.open_at(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty())?;
    let stat = fstat(fd.as_fd()).map_err(|errno| Error::syscall("fstat", path, errno))?;
    let failed = |errno| Error::syscall("getxattr", path, errno);
    let mut xattrs = Vec::new();
    match xattr::list_opath(&fd) {
        Ok(names) => {
            for name in names.iter().filter(|name| travels(name.to_bytes())) {
                if let Some(value) = xattr::get_opath(&fd, name).map_err(failed)? {
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
