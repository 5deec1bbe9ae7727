//! Directories that entries are in without the archive having them.

use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;

use graphdriver_sys::FileType;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, fstatat};

use super::directories::Directory;
use super::lowers;
use super::metadata::Target;
use super::options::WhiteoutMode;
use super::unpack::{Unpacker, name_of};
use super::whiteout_files::whiteout_of;
use crate::error::{Error, ErrorKind, Result};

impl Unpacker<'_> {
    /// The directory `path`, made if it is missing: like the one of the uppermost layer below that has it, else 0755 and the
    /// container's root's.
    pub(super) fn existing_or_implied(&mut self, path: &Path) -> Result<Rc<Directory>> {
        let error = match self.directories.open(path) {
            Ok(directory) => return Ok(directory),
            Err(error) => error,
        };
        // The deepest directory on the way that is there, and those that are not, the deepest first.
        let mut missing = vec![path];
        let mut failure = error;
        let mut directory = loop {
            match failure.errno() {
                Some(Errno::ENOENT | Errno::ENOTDIR) => {}
                Some(Errno::ELOOP | Errno::ENAMETOOLONG) => return Err(unreachable_directory(path, failure)),
                _ => return Err(failure),
            }
            let Some(above) = missing.last().and_then(|path| path.parent()) else { return Err(failure) };
            match self.directories.open(above) {
                Ok(directory) => break directory,
                Err(error) => failure = error,
            }
            missing.push(above);
        };
        while let Some(path) = missing.pop() {
            self.imply(&directory, path)?;
            directory = self.directories.open(path).map_err(|error| unreachable_directory(path, error))?;
        }
        Ok(directory)
    }

    /// Whether a whiteout of this archive is on the way to `path`.
    pub(super) fn is_hidden(&self, path: &Path) -> Result<bool> {
        for prefix in path.ancestors().filter(|prefix| !prefix.as_os_str().is_empty()) {
            let hidden = match self.options.whiteouts {
                WhiteoutMode::Fuse => self.root.lstat(&whiteout_of(prefix)?)?.is_some(),
                _ => self.root.lstat(prefix)?.is_some_and(|stat| is_whiteout(&stat)),
            };
            if hidden {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn imply(&mut self, parent: &Directory, path: &Path) -> Result<()> {
        let name = name_of(path)?;
        match fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => {}
            // A file that is made below a whiteout brings the directory back, with nothing else in it.
            Ok(stat) if is_whiteout(&stat) && matches!(self.options.whiteouts, WhiteoutMode::Overlay(_)) => {}
            Ok(stat) => {
                let what = match FileType::from_mode(stat.st_mode) {
                    FileType::Symlink => "is a symbolic link that leads to no directory",
                    _ => "is not a directory",
                };
                return Err(
                    Error::invalid_archive(format!("a directory that entries are in {what}")).path(path)
                );
            }
            Err(errno) => return Err(Error::syscall("fstatat", path, errno)),
        }
        let mut metadata = match lowers::directory(&self.options.lowers, path, self.options.whiteouts)? {
            Some(metadata) => self.rules.like_below(metadata),
            None => self.rules.default_directory()?,
        };
        let new = self.make_directory(parent, path, metadata.mode)?;
        metadata.inherited_acl = new && parent.default_acl;
        self.give_directory(Target::Entry(parent.as_fd(), name), path, metadata)
    }
}

/// Whether this is a whiteout in overlay's form.
pub(super) fn is_whiteout(stat: &FileStat) -> bool {
    FileType::from_mode(stat.st_mode) == FileType::CharDevice && stat.st_rdev == 0
}

fn unreachable_directory(path: &Path, cause: Error) -> Error {
    let error = Error::new(ErrorKind::InvalidArchive, "read archive").path(path);
    error.detail("a directory that entries are in cannot be reached").source(cause)
}
