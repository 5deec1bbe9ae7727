//! Directories for the tests of this crate, on a disk file system and on a tmpfs.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use tempfile::TempDir;

/// A fresh directory on whatever holds `/var/tmp`.
pub(crate) fn on_disk() -> TempDir {
    tempfile::tempdir_in("/var/tmp").expect("/var/tmp is writable")
}

/// A fresh directory on the tmpfs at `/dev/shm`.
pub(crate) fn on_tmpfs() -> TempDir {
    tempfile::tempdir_in("/dev/shm").expect("/dev/shm is writable")
}

/// An open descriptor for the file or directory at `path`.
pub(crate) fn open(path: &Path) -> OwnedFd {
    File::open(path).expect("the test made it").into()
}
