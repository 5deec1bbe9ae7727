//! [`RootDir`]: a directory that nothing inside it can lead out of.

mod remove;
mod resolve;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, Mode, fstatat};

use crate::error::{Error, ErrorKind, Result};

/// A directory held open, and the root of every path that is resolved through it.
///
/// Symbolic links are followed as a process with this root directory would follow them: absolute targets start here, and `..` stops
/// here. Resolution is `openat2(2)` with `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`, or, on kernels without it (before 5.6), a walk with one
/// `O_PATH` descriptor per component. What is done to a path is done with `*at` calls on the descriptor of its parent directory,
/// so a path is never resolved twice.
///
/// Paths given to the methods are relative to the root; a leading `/` is ignored. Cloning shares the descriptor.
#[derive(Clone, Debug)]
#[doc(alias = "chrootarchive")]
pub struct RootDir {
    fd: Arc<OwnedFd>,
    path: Arc<Path>,
}

/// Where a path's last component lies: its parent directory, held open, and its name.
#[derive(Debug)]
pub struct Location {
    /// The parent directory (`O_PATH`).
    pub dir: OwnedFd,
    /// The last component; one component, never empty, `.` or `..`.
    pub name: OsString,
}

impl RootDir {
    /// Opens the directory `path` of the host.
    ///
    /// # Errors
    /// The kind of the failed `open(2)`; `Io` with `ENOTDIR` when it is not a directory.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let fd =
            nix::fcntl::open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
                .map_err(|errno| Error::syscall("open", path, errno))?;
        Ok(Self::from_fd(fd, path))
    }

    /// Takes a directory that is open already (readable, not `O_PATH`); `path` is for messages only.
    pub fn from_fd(fd: OwnedFd, path: impl AsRef<Path>) -> Self {
        Self { fd: Arc::new(fd), path: path.as_ref().into() }
    }

    /// The path this was opened by, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens `path`, following symbolic links inside the root, the last one too unless `flags` has `O_NOFOLLOW`. `O_CLOEXEC` is added.
    ///
    /// # Errors
    /// The kind of the failed `openat2(2)`; the path in the error is `path`.
    pub fn open_at(&self, path: &Path, flags: OFlag, mode: Mode) -> Result<OwnedFd> {
        resolve::open(self.fd.as_fd(), path, flags | OFlag::O_CLOEXEC, mode)
            .map_err(|errno| Error::syscall("openat2", path, errno))
    }

    /// Opens the directory `path` for reading its entries and as the base of `*at` calls.
    ///
    /// # Errors
    /// As [`open_at`](Self::open_at).
    pub fn open_dir(&self, path: &Path) -> Result<OwnedFd> {
        self.open_at(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())
    }

    /// Opens the existing file `path` for reading, without following a symbolic link in its place and without blocking on a fifo.
    ///
    /// # Errors
    /// As [`open_at`](Self::open_at); `ELOOP` for a symbolic link.
    pub fn open_file(&self, path: &Path) -> Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        self.open_at(path, flags, Mode::empty()).map(File::from)
    }

    /// The directory `path` as a root of its own.
    ///
    /// # Errors
    /// As [`open_at`](Self::open_at).
    pub fn subdir(&self, path: &Path) -> Result<Self> {
        Ok(Self::from_fd(self.open_dir(path)?, self.path.join(path)))
    }

    /// Resolves all of `path` but its last component.
    ///
    /// # Errors
    /// As [`open_at`](Self::open_at); `InvalidArgument` when the path names the root itself or ends in `..`.
    pub fn locate(&self, path: &Path) -> Result<Location> {
        let Some(name) = path.file_name() else {
            return Err(Error::new(ErrorKind::InvalidArgument, "resolve")
                .path(path)
                .detail("has no last component"));
        };
        let parent = path.parent().unwrap_or(Path::new(""));
        let dir = resolve::open(
            self.fd.as_fd(),
            parent,
            OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map_err(|errno| Error::syscall("openat2", parent, errno))?;
        Ok(Location { dir, name: name.to_owned() })
    }

    /// What `path` is, not following a symbolic link in its place; `None` when it or a directory on the way to it is not there.
    ///
    /// # Errors
    /// The kind of the failed system call; never for `ENOENT` or `ENOTDIR`.
    pub fn lstat(&self, path: &Path) -> Result<Option<FileStat>> {
        let found = if path.file_name().is_none() {
            self.open_at(path, OFlag::O_PATH, Mode::empty()).and_then(|fd| {
                fstatat(&fd, "", AtFlags::AT_EMPTY_PATH)
                    .map_err(|errno| Error::syscall("fstatat", path, errno))
            })
        } else {
            self.locate(path).and_then(|at| {
                fstatat(&at.dir, at.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
                    .map_err(|errno| Error::syscall("fstatat", path, errno))
            })
        };
        match found {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::ENOTDIR)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes `path` and all below it, like `rm -rf`; nothing happens when it is not there. Does not follow symbolic links and does not cross into
    /// another mounted file system.
    ///
    /// # Errors
    /// The kind of the first failed system call, with the path below the root; what was removed until then stays removed.
    /// `Io` with `EBUSY` where something is mounted.
    pub fn remove_all(&self, path: &Path) -> Result<()> {
        match self.locate(path) {
            Ok(at) => remove::remove_at(at.dir.as_fd(), &at.name, path),
            Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::ENOTDIR)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes all that is in the root directory, but not the directory itself.
    ///
    /// # Errors
    /// As [`remove_all`](Self::remove_all).
    pub fn remove_contents(&self) -> Result<()> {
        remove::remove_contents(self.fd.as_fd(), Path::new(""))
    }
}

impl AsFd for RootDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Removes `name` in the directory `dir` and all below it, as [`RootDir::remove_all`] does; `path` is for messages.
///
/// # Errors
/// As [`RootDir::remove_all`].
pub fn remove_at(dir: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<()> {
    remove::remove_at(dir, name, path)
}

/// A name from outside as a clean relative path: no leading `/`, no `.`, and `..` taken together with the component before it, as text.
/// The root itself is the empty path.
///
/// # Errors
/// `PathEscape` when a `..` goes above the root; `InvalidArchive` for a NUL byte.
pub fn clean_name(name: &[u8]) -> Result<PathBuf> {
    if name.contains(&0) {
        return Err(Error::invalid_archive("a name has a NUL byte").path(OsStr::from_bytes(name)));
    }
    let name = Path::new(OsStr::from_bytes(name));
    let mut clean = PathBuf::new();
    for component in name.components() {
        match component {
            Component::Normal(part) => clean.push(part),
            Component::ParentDir => {
                if !clean.pop() {
                    return Err(Error::new(ErrorKind::PathEscape, "resolve")
                        .path(name)
                        .detail("the name leaves the root"));
                }
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Ok(clean)
}

#[cfg(test)]
mod tests;
