//! Making subvolumes, and telling what they are.

use std::path::Path;

use graphdriver_archive::RootDir;
use graphdriver_core::{Error, Result};
use graphdriver_sys::btrfs::subvolume::{self, SubvolumeFlags, SubvolumeInfo};

/// Makes an empty subvolume in `dir`.
///
/// # Errors
/// `NoSpace`, `PermissionDenied`, `Io` (`EEXIST`).
pub(crate) fn create(dir: &RootDir, name: &str) -> Result<RootDir> {
    let path = dir.path().join(name);
    subvolume::create(dir, name).map_err(|errno| Error::syscall("create subvolume", &path, errno))?;
    Ok(dir.subdir(Path::new(name))?)
}

/// Makes a snapshot of the subvolume `source` in `dir`.
///
/// # Errors
/// `NoSpace`; `PermissionDenied` when the source belongs to somebody else; `Io` (`EEXIST`; `EINVAL` when the source is no subvolume).
pub(crate) fn snapshot(
    dir: &RootDir,
    name: &str,
    source: &RootDir,
    flags: SubvolumeFlags,
) -> Result<RootDir> {
    let path = dir.path().join(name);
    let of = |error: Error| error.detail(format!("of {:?}", source.path()));
    subvolume::snapshot(dir, name, source, flags)
        .map_err(|errno| of(Error::syscall("create snapshot", &path, errno)))?;
    Ok(dir.subdir(Path::new(name))?)
}

/// What the file system knows of the subvolume that `root` is in.
///
/// # Errors
/// `Io`.
pub(crate) fn info(root: &RootDir) -> Result<SubvolumeInfo> {
    subvolume::info(root).map_err(|errno| Error::syscall("look at subvolume", root.path(), errno))
}
