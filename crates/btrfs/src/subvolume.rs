//! Making subvolumes, and telling what they are.

use std::path::Path;

use graphdriver_archive::RootDir;
use graphdriver_core::{Error, Result};
use graphdriver_sys::btrfs::subvolume::{self, SubvolumeFlags, SubvolumeInfo, Uuid};

#[cfg(feature = "libbtrfsutil")]
use crate::library;

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

/// Which subvolume `root` is, and of which it is a snapshot; nothing, where that is a directory that somebody put there.
///
/// # Errors
/// `Io` (`ENOENT` for a subvolume that was destroyed meanwhile).
pub(crate) fn identity(root: &RootDir) -> Result<Option<Identity>> {
    let failed = |call| move |errno| Error::syscall(call, root.path(), errno);
    // Of a directory, this would tell about the subvolume that it is in.
    if !subvolume::is_subvolume(root).map_err(failed("fstatfs"))? {
        return Ok(None);
    }
    match subvolume::info(root) {
        #[cfg(feature = "libbtrfsutil")]
        Err(nix::errno::Errno::ENOTTY) => library::identity(root).map(Some),
        info => info.map(|info| Some(info.into())).map_err(failed("look at subvolume")),
    }
}

/// By what a subvolume is told from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uuid: Uuid,
    /// That of the subvolume that it is a snapshot of.
    pub(crate) parent: Option<Uuid>,
}

impl From<SubvolumeInfo> for Identity {
    fn from(info: SubvolumeInfo) -> Self {
        Self { uuid: info.uuid, parent: info.parent }
    }
}
