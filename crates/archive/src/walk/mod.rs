//! What every walk over a tree shares: reading directories in order, going down and up by descriptor, sharing work.

mod crew;
mod dir_stack;
mod listing;
mod visit;

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fstatat};

pub(crate) use crew::{Crew, run_crew};
pub(crate) use dir_stack::DirStack;
pub(crate) use listing::Listing;
pub(crate) use visit::{Visited, visit_tree, visit_tree_shared};

/// Opens the directory `name` of `dir` for reading, not following a symbolic link in its place.
pub(crate) fn open_dir_at<P: ?Sized + NixPath>(dir: impl AsFd, name: &P) -> nix::Result<OwnedFd> {
    open_quietly(dir, name, OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW)
}

/// Opens the file `name` of `dir` for reading, not following a symbolic link and not waiting for a fifo's writer.
pub(crate) fn open_file_at<P: ?Sized + NixPath>(dir: impl AsFd, name: &P) -> nix::Result<OwnedFd> {
    open_quietly(dir, name, OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
}

/// Opens for reading without moving the access time where the kernel allows that: to the owner and to `CAP_FOWNER`.
fn open_quietly<P: ?Sized + NixPath>(dir: impl AsFd, name: &P, flags: OFlag) -> nix::Result<OwnedFd> {
    let flags = flags | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    match openat(dir.as_fd(), name, flags | OFlag::O_NOATIME, Mode::empty()) {
        Err(Errno::EPERM) => openat(dir.as_fd(), name, flags, Mode::empty()),
        result => result,
    }
}

/// What the entry `name` of `dir` is, not following a symbolic link.
pub(crate) fn lstat_at<P: ?Sized + NixPath>(dir: impl AsFd, name: &P) -> nix::Result<FileStat> {
    fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// Appends `name` to the relative path `path`.
pub(crate) fn push_name(path: &mut Vec<u8>, name: &CStr) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name.to_bytes());
}

/// Bytes as the path they are.
pub(crate) fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}
