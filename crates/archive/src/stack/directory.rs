//! One of the directories that are merged at some path.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};

use super::LayerStack;
use crate::error::{Error, Result};
use crate::walk::{Listing, as_path};

/// Of directories that are merged, as many are kept open: a stack may be half as deep as the number of files that a process may usually have open (1024).
pub(super) const KEPT_OPEN: usize = 64;

/// `O_NOFOLLOW`: only real directories are merged, and each one above was seen to be one.
const FLAGS: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW);

/// Where a directory lies: the number of its layer in the stack, and its path there, without symbolic links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) layer: usize,
    pub(crate) path: Arc<[u8]>,
}

impl Origin {
    /// The directory `name` in this one.
    pub(super) fn join(&self, name: &[u8]) -> Self {
        let separator: &[u8] = if self.path.is_empty() { b"" } else { b"/" };
        Self { layer: self.layer, path: [&self.path, separator, name].concat().into() }
    }

    fn is_above(&self, other: &Self) -> bool {
        let base = other.path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        self.layer == other.layer && *self.path == other.path[..base]
    }
}

/// A directory of one layer.
#[derive(Debug)]
pub(crate) struct LayerDir {
    pub(crate) origin: Origin,
    handle: Handle,
    pub(super) opaque: bool,
    /// Whether empty files with an attribute are whiteouts in it.
    pub(super) xattr_whiteouts: bool,
    /// Its names, if they were read.
    pub(super) listing: Option<Listing>,
}

#[derive(Debug)]
enum Handle {
    Open(OwnedFd),
    /// Device and inode, where they must stay the same.
    Closed(Option<(u64, u64)>),
}

/// A descriptor, of a directory that is kept open or only for the moment.
pub(super) enum Opened<'a> {
    Kept(BorrowedFd<'a>),
    Now(OwnedFd),
}

impl AsFd for Opened<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Kept(fd) => *fd,
            Self::Now(fd) => fd.as_fd(),
        }
    }
}

impl LayerDir {
    /// Opens the directory at `origin` and reads its marks.
    pub(super) fn open(stack: &LayerStack, origin: Origin) -> Result<Self> {
        let fd = stack.layers[origin.layer].open_at(as_path(&origin.path), FLAGS, Mode::empty())?;
        let failed = |errno| Error::syscall("flistxattr", as_path(&origin.path), errno);
        let marks = stack.form.marks(fd.as_fd()).map_err(failed)?;
        let mut dir = Self::new(origin, fd, marks.xattr_whiteouts);
        dir.opaque = marks.opaque;
        Ok(dir)
    }

    pub(super) fn new(origin: Origin, fd: OwnedFd, xattr_whiteouts: bool) -> Self {
        Self { origin, handle: Handle::Open(fd), opaque: false, xattr_whiteouts, listing: None }
    }

    /// Its descriptor, or a new one if it is closed.
    pub(super) fn fd(&self, stack: &LayerStack) -> Result<Opened<'_>> {
        match &self.handle {
            Handle::Open(fd) => Ok(Opened::Kept(fd.as_fd())),
            Handle::Closed(_) => {
                let root = &stack.layers[self.origin.layer];
                root.open_at(as_path(&self.origin.path), FLAGS, Mode::empty()).map(Opened::Now)
            }
        }
    }

    /// The descriptor, of a directory known to be open.
    pub(crate) fn kept(&self) -> Option<BorrowedFd<'_>> {
        match &self.handle {
            Handle::Open(fd) => Some(fd.as_fd()),
            Handle::Closed(_) => None,
        }
    }

    pub(super) fn close(&mut self) {
        if let Handle::Open(fd) = &self.handle {
            self.handle = Handle::Closed(identity(fd.as_fd()).ok());
        }
    }
}

/// Opens those of `dirs` that are to be kept open and are not. `inside` are directories that are open, of which each may be in one of those.
pub(super) fn keep_open(stack: &LayerStack, dirs: &mut [LayerDir], inside: &[LayerDir]) -> Result<()> {
    for dir in dirs.iter_mut().take(KEPT_OPEN) {
        let Handle::Closed(expected) = dir.handle else { continue };
        let below = inside.iter().find(|below| dir.origin.is_above(&below.origin));
        let fd = match (below.and_then(LayerDir::kept), expected) {
            // However deep it lies, this is one step; only not when another process moved what is below.
            (Some(below), Some(expected)) => {
                let failed = |errno| Error::syscall("openat", as_path(&dir.origin.path), errno);
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                let fd = openat(below, "..", flags, Mode::empty()).map_err(failed)?;
                if identity(fd.as_fd()).map_err(failed)? != expected {
                    return Err(failed(Errno::ESTALE));
                }
                fd
            }
            _ => stack.layers[dir.origin.layer].open_at(as_path(&dir.origin.path), FLAGS, Mode::empty())?,
        };
        dir.handle = Handle::Open(fd);
    }
    Ok(())
}

fn identity(fd: BorrowedFd<'_>) -> nix::Result<(u64, u64)> {
    fstat(fd).map(|stat| (stat.st_dev, stat.st_ino))
}
