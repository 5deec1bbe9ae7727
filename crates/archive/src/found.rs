//! What there is to know about a file of a tree.

use std::ffi::{CStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use graphdriver_sys::FileType;
use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::stat::{FileStat, fstat};

use crate::error::{Error, Result};
use crate::stack::{LayerForm, Marks};
use crate::walk::{as_path, lstat_at, open_dir_at, open_file_at};
use crate::xattrs::{self, Xattr};

/// A file of the tree.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) stat: FileStat,
    pub(crate) kind: Kind,
    /// The portable ones.
    pub(crate) xattrs: Vec<Xattr>,
    /// What it says about the layers below.
    pub(crate) marks: Marks,
}

/// What kind it is, and what reading it takes.
#[derive(Debug)]
pub(crate) enum Kind {
    Regular(OwnedFd),
    /// Taken out by who goes on into it.
    Directory(Option<OwnedFd>),
    Symlink(OsString),
    Fifo,
    Device(FileType),
    Socket,
}

/// Where a file is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) dir: BorrowedFd<'a>,
    pub(crate) name: &'a CStr,
    /// Of the file, relative to the root.
    pub(crate) path: &'a [u8],
}

impl Place<'_> {
    /// The failure of a system call on the file.
    pub(crate) fn failed(&self, operation: &'static str, errno: Errno) -> Error {
        Error::syscall(operation, as_path(self.path), errno)
    }
}

/// Looks at the file, of which the directory says that it is a `hint`; `None` when it is not there any more. Its marks are those of a layer of
/// this form.
///
/// Files and directories are opened first and then looked at, so that what is said about them and what is in them is the same file's.
pub(crate) fn find(place: Place<'_>, hint: FileType, form: LayerForm) -> Result<Option<Found>> {
    let mut file_type = hint;
    // Another process may put another kind of file in its place between two calls; not for ever.
    for _ in 0..8 {
        let found = match file_type {
            FileType::Regular | FileType::Directory => open(place, file_type, form)?,
            _ => look(place)?,
        };
        match found {
            Lookup::Found(found) => return Ok(Some(found)),
            Lookup::Missing => return Ok(None),
            Lookup::Other(actual) => file_type = actual,
        }
    }
    Err(place.failed("openat", Errno::EAGAIN))
}

#[expect(clippy::large_enum_variant, reason = "one at a time, on the stack")]
enum Lookup {
    Found(Found),
    Missing,
    /// It is of this kind instead.
    Other(FileType),
}

fn open(place: Place<'_>, file_type: FileType, form: LayerForm) -> Result<Lookup> {
    let opened = if file_type.is_dir() {
        open_dir_at(place.dir, place.name)
    } else {
        open_file_at(place.dir, place.name)
    };
    let fd = match opened {
        Ok(fd) => fd,
        Err(Errno::ENOENT) => return Ok(Lookup::Missing),
        // Symbolic links, what is not a directory, and sockets are refused so.
        Err(Errno::ELOOP | Errno::ENOTDIR | Errno::ENXIO) => return Ok(Lookup::Other(FileType::Unknown)),
        Err(errno) => return Err(place.failed("openat", errno)),
    };
    let stat = fstat(&fd).map_err(|errno| place.failed("fstat", errno))?;
    let actual = FileType::from_mode(stat.st_mode);
    if actual != file_type {
        return Ok(Lookup::Other(actual));
    }
    let (xattrs, marks) =
        form.xattrs_and_marks(fd.as_fd(), file_type).map_err(|errno| place.failed("fgetxattr", errno))?;
    let kind = if file_type.is_dir() { Kind::Directory(Some(fd)) } else { Kind::Regular(fd) };
    Ok(Lookup::Found(Found { stat, kind, xattrs, marks }))
}

fn look(place: Place<'_>) -> Result<Lookup> {
    let stat = match lstat_at(place.dir, place.name) {
        Err(Errno::ENOENT) => return Ok(Lookup::Missing),
        stat => stat.map_err(|errno| place.failed("fstatat", errno))?,
    };
    let file_type = FileType::from_mode(stat.st_mode);
    let kind = match file_type {
        FileType::Regular | FileType::Directory => return Ok(Lookup::Other(file_type)),
        FileType::Symlink => match readlinkat(place.dir, place.name) {
            Ok(target) => Kind::Symlink(target),
            Err(Errno::ENOENT) => return Ok(Lookup::Missing),
            Err(Errno::EINVAL) => return Ok(Lookup::Other(FileType::Unknown)),
            Err(errno) => return Err(place.failed("readlinkat", errno)),
        },
        FileType::Fifo => Kind::Fifo,
        FileType::CharDevice | FileType::BlockDevice => Kind::Device(file_type),
        FileType::Socket | FileType::Unknown => Kind::Socket,
    };
    let xattrs = match xattrs::of_entry(place.dir, place.name) {
        Err(Errno::ENOENT) => return Ok(Lookup::Missing),
        xattrs => xattrs.map_err(|errno| place.failed("lgetxattr", errno))?,
    };
    Ok(Lookup::Found(Found { stat, kind, xattrs, marks: Marks::default() }))
}
