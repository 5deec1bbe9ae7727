//! The directories that entries go into, held open.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use graphdriver_sys::xattr;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::error::Result;
use crate::root::RootDir;

/// An open directory.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    /// It has a default ACL, which everything made in it inherits.
    pub(super) default_acl: bool,
}

/// Directories used last, by path.
///
/// Invariant: [`forget`](Self::forget) is called whenever a directory or symbolic link is removed or replaced, because any cached path may lead through it.
#[derive(Debug)]
pub(super) struct Directories {
    root: RootDir,
    limit: usize,
    open: HashMap<PathBuf, Cached>,
    /// The one used last, which most entries want again.
    last: Option<(PathBuf, Rc<Directory>)>,
    uses: u64,
}

#[derive(Debug)]
struct Cached {
    directory: Rc<Directory>,
    last_use: u64,
}

impl Directories {
    /// Those below `root`, at most `limit` of them open.
    pub(super) fn new(root: RootDir, limit: usize) -> Self {
        Self { root, limit, open: HashMap::new(), last: None, uses: 0 }
    }

    /// Opens the directory `path`, following symbolic links inside the root.
    ///
    /// # Errors
    /// The kind of the failed `openat2(2)`.
    pub(super) fn open(&mut self, path: &Path) -> Result<Rc<Directory>> {
        if let Some((last, directory)) = &self.last
            && last == path
        {
            return Ok(Rc::clone(directory));
        }
        let directory = self.find_or_open(path)?;
        self.last = Some((path.to_owned(), Rc::clone(&directory)));
        Ok(directory)
    }

    /// Closes all, because a path may lead elsewhere now.
    pub(super) fn forget(&mut self) {
        self.open.clear();
        self.last = None;
    }

    fn find_or_open(&mut self, path: &Path) -> Result<Rc<Directory>> {
        self.uses += 1;
        if let Some(cached) = self.open.get_mut(path) {
            cached.last_use = self.uses;
            return Ok(Rc::clone(&cached.directory));
        }
        let directory = Rc::new(Directory::open(&self.root, path)?);
        if self.open.len() >= self.limit {
            let oldest =
                self.open.iter().min_by_key(|(_, cached)| cached.last_use).map(|(path, _)| path.clone());
            oldest.and_then(|path| self.open.remove(&path));
        }
        let cached = Cached { directory: Rc::clone(&directory), last_use: self.uses };
        self.open.insert(path.to_owned(), cached);
        Ok(directory)
    }
}

impl Directory {
    fn open(root: &RootDir, path: &Path) -> Result<Self> {
        const DEFAULT_ACL: &std::ffi::CStr = c"system.posix_acl_default";
        match root.open_dir(path) {
            // Any failure to ask means that the file system has no ACLs.
            Ok(fd) => Ok(Self { default_acl: matches!(xattr::fget(&fd, DEFAULT_ACL), Ok(Some(_))), fd }),
            // An ordinary user may make files in a directory that he cannot list.
            Err(error) if error.errno() == Some(Errno::EACCES) => {
                let fd = root.open_at(path, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())?;
                Ok(Self { default_acl: matches!(xattr::get_opath(&fd, DEFAULT_ACL), Ok(Some(_))), fd })
            }
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
