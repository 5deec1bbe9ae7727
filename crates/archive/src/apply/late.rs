//! What directories get when nothing is made in them any more.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::directories::Directories;
use super::metadata::{Target, Times};
use crate::error::{Error, Result};
use crate::root::RootDir;

/// Times, and modes that would keep their owner out, of directories.
#[derive(Debug, Default)]
pub(super) struct Late {
    /// In the order of the archive; of two for one directory the later counts.
    times: Vec<(PathBuf, Times)>,
    modes: BTreeMap<PathBuf, u32>,
    /// Permissions do not bind this process, so that a directory's mode never keeps it out.
    privileged: bool,
    removed: bool,
}

impl Late {
    pub(super) fn new(privileged: bool) -> Self {
        Self { privileged, ..Self::default() }
    }

    pub(super) fn times(&mut self, path: &Path, times: Times) {
        self.times.push((path.to_owned(), times));
    }

    /// The mode that a directory has until then, for one that is to end with `mode`.
    pub(super) fn mode(&mut self, path: &Path, mode: u32) -> u32 {
        if self.privileged || mode & 0o700 == 0o700 {
            self.modes.remove(path);
            return mode;
        }
        self.modes.insert(path.to_owned(), mode);
        mode | 0o700
    }

    /// A directory was removed: what is said here about some path may not be about what is there now.
    pub(super) fn directory_removed(&mut self) {
        self.removed = true;
    }

    /// Sets them all. What is no directory any more is passed over.
    ///
    /// # Errors
    /// The kind of the failed system call.
    pub(super) fn set(self, root: &RootDir, directories: &mut Directories) -> Result<()> {
        for (path, times) in &self.times {
            let result = match path.file_name() {
                None => Target::Open(root.as_fd()).set_times(*times),
                Some(_) if self.removed => match open(path, directories)? {
                    Some(fd) => Target::Open(fd.as_fd()).set_times(*times),
                    None => Ok(()),
                },
                Some(name) => match directories.open(path.parent().unwrap_or(Path::new(""))) {
                    Ok(parent) => Target::Entry(parent.as_fd(), name).set_times(*times),
                    Err(error) => ignore_gone(error).map(|()| Ok(()))?,
                },
            };
            match result {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(Error::syscall("utimensat", path, errno)),
            }
        }
        // Deepest first: a directory may close the way to those below it.
        for (path, mode) in self.modes.iter().rev() {
            let fd = if path.as_os_str().is_empty() { None } else { open(path, directories)? };
            let result = match &fd {
                Some(fd) => Target::Open(fd.as_fd()).chmod(*mode),
                None if path.as_os_str().is_empty() => Target::Open(root.as_fd()).chmod(*mode),
                None => Ok(()),
            };
            result.map_err(|errno| Error::syscall("fchmod", path, errno))?;
        }
        Ok(())
    }
}

/// The directory `path`, not following a symbolic link in its place; `None` when there is none.
fn open(path: &Path, directories: &mut Directories) -> Result<Option<std::os::fd::OwnedFd>> {
    let Some(name) = path.file_name() else { return Ok(None) };
    let parent = match directories.open(path.parent().unwrap_or(Path::new(""))) {
        Ok(parent) => parent,
        Err(error) => return ignore_gone(error).map(|()| None),
    };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(&*parent, name, flags, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
        Err(errno) => Err(Error::syscall("openat", path, errno)),
    }
}

fn ignore_gone(error: Error) -> Result<()> {
    match error.errno() {
        Some(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(()),
        _ => Err(error),
    }
}
