//! Whether a layer is mounted at its mount point.

use std::fmt;
use std::io::ErrorKind::{NotADirectory, NotFound};
use std::path::Path;

use graphdriver_sys::mount_point::is_mount_point;
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;

use crate::error::{Error, Result};
use crate::fs_magic::{FsMagic, fs_magic};
use crate::mount_info;

/// How a driver tells whether something of its kind is mounted at a path.
#[doc(alias = "Checker")]
pub trait MountChecker: fmt::Debug + Send + Sync {
    /// Whether a layer is mounted at `path`; false when there is no such path.
    ///
    /// # Errors
    /// `Io`, `PermissionDenied` when that cannot be found out.
    fn is_mounted(&self, path: &Path) -> Result<bool>;
}

/// Looks into the table of mounts, whatever is mounted.
#[derive(Clone, Copy, Debug, Default)]
#[doc(alias = "NewDefaultChecker")]
pub struct MountInfoChecker;

impl MountChecker for MountInfoChecker {
    fn is_mounted(&self, path: &Path) -> Result<bool> {
        mount_info::is_mounted(path)
    }
}

/// Asks the path: it must be a mount point, and on a file system of one of these types.
///
/// Costs two system calls however many mounts there are. The type alone would not do: it is the same for every directory of a program that itself runs on an overlay.
#[derive(Clone, Debug)]
#[doc(alias = "NewFsChecker")]
pub struct FsMagicChecker {
    magics: Vec<FsMagic>,
}

impl FsMagicChecker {
    /// A checker for mounts of these types.
    pub fn new(magics: impl IntoIterator<Item = FsMagic>) -> Self {
        Self { magics: magics.into_iter().collect() }
    }
}

impl MountChecker for FsMagicChecker {
    fn is_mounted(&self, path: &Path) -> Result<bool> {
        match is_mount_point(AT_FDCWD, path) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => return Ok(false),
            // The server of the file system mounted here is gone, which only something mounted can suffer.
            Err(error) if error.raw_os_error() == Some(Errno::ENOTCONN as i32) => return Ok(true),
            Err(error) => return Err(Error::io("statx", path, error)),
        }
        match fs_magic(path) {
            Ok(magic) => Ok(self.magics.contains(&magic)),
            Err(error) if error.errno() == Some(Errno::ENOTCONN) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_and_mount_point_are_both_needed() {
        let temp = tempfile::tempdir_in("/dev/shm").unwrap();
        let tmpfs = FsMagicChecker::new([FsMagic::OVERLAY, FsMagic::TMPFS]);
        assert!(tmpfs.is_mounted(Path::new("/dev/shm")).unwrap());
        assert!(!tmpfs.is_mounted(temp.path()).unwrap(), "on a tmpfs, but not mounted");
        assert!(!tmpfs.is_mounted(Path::new("/proc")).unwrap(), "mounted, but no tmpfs");
        assert!(!FsMagicChecker::new([]).is_mounted(Path::new("/dev/shm")).unwrap());
    }

    #[test]
    fn nothing_is_mounted_where_nothing_is() {
        let checkers: [&dyn MountChecker; 2] = [&FsMagicChecker::new([FsMagic::TMPFS]), &MountInfoChecker];
        for checker in checkers {
            for path in ["/nonexistent", "/nonexistent/dir", "/dev/null/dir"] {
                assert!(!checker.is_mounted(Path::new(path)).unwrap(), "{path}");
            }
            assert!(checker.is_mounted(Path::new("/dev/shm")).unwrap());
        }
    }
}
