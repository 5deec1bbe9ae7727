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

/// What the file system knows of the subvolume `root`; nothing, where that is a directory that somebody put there.
///
/// # Errors
/// `Io` (`ENOENT` for a subvolume that was destroyed meanwhile).
pub(crate) fn info_of_root(root: &RootDir) -> Result<Option<SubvolumeInfo>> {
    let failed = |call| move |errno| Error::syscall(call, root.path(), errno);
    // Of a directory, this would tell about the subvolume that it is in.
    if !subvolume::is_subvolume(root).map_err(failed("fstatfs"))? {
        return Ok(None);
    }
    subvolume::info(root).map(Some).map_err(failed("look at subvolume"))
}
