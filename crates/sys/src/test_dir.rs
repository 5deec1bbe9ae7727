//! What the tests of this crate stand on: directories on a disk file system and on a tmpfs, and the age of the kernel.

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

/// Whether the kernel is to have what came with Linux `major.minor`. An older one may have it, too, or else fails as that version's predecessors do.
pub(crate) fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("/proc is mounted");
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(running)), Some(Ok(minor_running))) => (running, minor_running) >= (major, minor),
        _ => panic!("a release without a version: {release}"),
    }
}

/// An open descriptor for the file or directory at `path`.
pub(crate) fn open(path: &Path) -> OwnedFd {
    File::open(path).expect("the test made it").into()
}
