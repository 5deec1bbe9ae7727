//! Whiteouts and opaque marks as files with a name of their own, for fuse-overlayfs.
//!
//! Such a whiteout hides what is beside it in the same layer too, so the two never stay together.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::directories::Directory;
use super::options::WhiteoutMode;
use super::unpack::{Unpacker, name_of};
use crate::error::{Error, Result};
use crate::whiteout;

impl Unpacker<'_> {
    /// Makes the whiteout of `hidden` in `parent`, in place of `hidden` itself; its path.
    pub(super) fn make_whiteout_file(&mut self, parent: &Directory, hidden: &Path) -> Result<PathBuf> {
        self.clear(parent, hidden, false)?;
        let mark = whiteout_of(hidden)?;
        make_empty(parent, name_of(&mark)?, &mark)?;
        Ok(mark)
    }

    /// Makes the directory opaque.
    pub(super) fn make_opaque_file(&mut self, directory: &Path) -> Result<()> {
        let open = self.directories.open(directory)?;
        make_empty(&open, OsStr::from_bytes(whiteout::OPAQUE), directory)
    }

    /// `path` was made: a whiteout that this archive had for it before does not hide it, only what is below. Of a directory it
    /// leaves the opaque mark.
    pub(super) fn bring_back(&mut self, parent: &Directory, path: &Path, is_directory: bool) -> Result<()> {
        if self.options.whiteouts != WhiteoutMode::Fuse || !self.made_whiteouts {
            return Ok(());
        }
        let mark = whiteout_of(path)?;
        match unlinkat(parent, name_of(&mark)?, UnlinkatFlags::NoRemoveDir) {
            Ok(()) if is_directory => self.make_opaque_file(path),
            Ok(()) | Err(Errno::ENOENT | Errno::ENAMETOOLONG) => Ok(()),
            Err(errno) => Err(Error::syscall("unlinkat", mark, errno)),
        }
    }
}

/// The path of the whiteout that hides `path`.
pub(crate) fn whiteout_of(path: &Path) -> Result<PathBuf> {
    let name = [whiteout::PREFIX, name_of(path)?.as_bytes()].concat();
    Ok(path.with_file_name(OsStr::from_bytes(&name)))
}

fn make_empty(parent: &Directory, name: &OsStr, path: &Path) -> Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(parent, name, flags, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(_) => Ok(()),
        Err(errno) => Err(Error::syscall("openat", path, errno)),
    }
}
