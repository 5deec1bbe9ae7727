//! What a file of a layer says about the layers below.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use graphdriver_sys::{FileType, xattr};
use nix::NixPath;
use nix::errno::Errno;
use nix::sys::stat::FileStat;

use crate::walk::lstat_at;
use crate::whiteout::{self, OverlayXattrs};
use crate::xattrs::{self, Xattr};

/// How a layer's directory on disk marks what it hides.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LayerForm {
    /// Character devices 0/0 and attributes, as the kernel's overlay has it.
    Overlay(OverlayXattrs),
    /// `.wh.` files.
    Aufs,
    /// A tree that is no layer: nothing in it is a mark.
    Plain,
    /// As fuse-overlayfs has it: either of the above, and an attribute in any of three namespaces.
    Fuse,
}

/// The marks of one file or directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// The layers below are hidden.
    pub(crate) opaque: bool,
    /// Whiteouts in this directory may be regular files with an attribute (Linux 6.7).
    pub(crate) xattr_whiteouts: bool,
    /// Under which name, or, with a slash in front, under which path this lies in the layers below.
    pub(crate) redirect: Option<Vec<u8>>,
    /// Only the metadata is here; the contents are in a layer below.
    pub(crate) metacopy: bool,
}

impl LayerForm {
    /// The marks of what is open as `fd`.
    pub(crate) fn marks(self, fd: BorrowedFd<'_>) -> nix::Result<Marks> {
        let Self::Overlay(namespace) = self else { return self.opaque_only(fd) };
        let names = match xattr::flist(fd) {
            Err(Errno::EOPNOTSUPP) => return Ok(Marks::default()),
            names => names?,
        };
        let mut marks = Marks::default();
        for name in names.iter().filter(|name| is_mark(namespace, name)) {
            if let Some(value) = xattr::fget(fd, name)? {
                marks.add(namespace, name, value);
            }
        }
        Ok(marks)
    }

    /// The portable attributes of what is open as `fd`, a directory or a regular file, and its marks.
    pub(crate) fn xattrs_and_marks(
        self,
        fd: BorrowedFd<'_>,
        file_type: FileType,
    ) -> nix::Result<(Vec<Xattr>, Marks)> {
        let Self::Overlay(namespace) = self else {
            let marks = if file_type.is_dir() { self.opaque_only(fd)? } else { Marks::default() };
            return Ok((xattrs::of_file(fd)?, marks));
        };
        let (portable, others) = xattrs::of_file_and(fd, |name| is_mark(namespace, name))?;
        let mut marks = Marks::default();
        for Xattr { name, value } in others {
            marks.add(namespace, &name, value);
        }
        Ok((portable, marks))
    }

    fn opaque_only(self, fd: BorrowedFd<'_>) -> nix::Result<Marks> {
        let opaque = match self {
            Self::Plain | Self::Overlay(_) => false,
            Self::Aufs => exists(fd, whiteout::OPAQUE)?.is_some(),
            Self::Fuse => fuse_opaque(fd)? || exists(fd, whiteout::OPAQUE)?.is_some(),
        };
        Ok(Marks { opaque, ..Marks::default() })
    }

    /// Whether an entry is a whiteout by its name, `.wh.<name>`.
    pub(crate) fn marks_by_name(self) -> bool {
        matches!(self, Self::Aufs | Self::Fuse)
    }

    /// Whether the entry `name` of `dir` is a whiteout in the kernel's form; in AUFS form [the name alone](Self::marks_by_name) tells.
    pub(crate) fn is_whiteout<P: ?Sized + NixPath>(
        self,
        dir: BorrowedFd<'_>,
        xattr_whiteouts: bool,
        name: &P,
        stat: &FileStat,
    ) -> nix::Result<bool> {
        match (self, FileType::from_mode(stat.st_mode)) {
            (Self::Overlay(_) | Self::Fuse, FileType::CharDevice) => Ok(stat.st_rdev == 0),
            (Self::Overlay(xattrs), FileType::Regular) if stat.st_size == 0 && xattr_whiteouts => {
                Ok(xattr::get_at(dir, name, xattrs.whiteout())?.is_some())
            }
            _ => Ok(false),
        }
    }
}

impl Marks {
    fn add(&mut self, namespace: OverlayXattrs, name: &CStr, value: Vec<u8>) {
        if name == namespace.opaque() {
            self.opaque = value == b"y";
            self.xattr_whiteouts = value == b"x";
        } else if name == namespace.redirect() {
            self.redirect = Some(value);
        } else if name == namespace.metacopy() {
            self.metacopy = true;
        }
    }
}

fn is_mark(namespace: OverlayXattrs, name: &CStr) -> bool {
    [namespace.opaque(), namespace.redirect(), namespace.metacopy()].contains(&name)
}

/// Whether one of the attributes by which fuse-overlayfs knows an opaque directory says so.
fn fuse_opaque(dir: BorrowedFd<'_>) -> nix::Result<bool> {
    for name in whiteout::FUSE_OPAQUE {
        match xattr::fget(dir, name) {
            Ok(Some(value)) if value == b"y" => return Ok(true),
            Ok(_) | Err(Errno::EOPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(false)
}

/// What `name` in `dir` is, or `None`; a name that the file system finds too long is not there.
pub(super) fn exists(dir: impl AsFd, name: &[u8]) -> nix::Result<Option<FileStat>> {
    match lstat_at(dir, name) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ENAMETOOLONG) => Ok(None),
        Err(errno) => Err(errno),
    }
}
