//! Visiting every directory of a tree, in no particular order.

use std::ffi::CString;
use std::os::fd::BorrowedFd;

use graphdriver_sys::FileType;
use graphdriver_sys::dents::Buffer;
use nix::errno::Errno;
use nix::sys::stat::FileStat;

use super::{DirStack, Listing, as_path, lstat_at, open_dir_at, push_name};
use crate::error::{Error, Result};
use crate::root::RootDir;

/// An entry of the directory that is visited.
pub(crate) struct Visited<'a> {
    pub(crate) dir: BorrowedFd<'a>,
    pub(crate) name: CString,
    /// Of the entry, relative to the root.
    pub(crate) path: Vec<u8>,
    pub(crate) stat: FileStat,
}

/// Calls `visit` for everything in `root` but the root itself, a directory before what is in it, until it returns false. What
/// vanishes meanwhile is not visited.
pub(crate) fn visit_tree(root: &RootDir, mut visit: impl FnMut(&Visited<'_>) -> Result<bool>) -> Result<()> {
    let top = open_dir_at(root, ".").map_err(|errno| Error::syscall("openat", root.path(), errno))?;
    let mut walk = Walk { dirs: DirStack::new(top), buffer: Buffer::new(), path: Vec::new() };
    let Some(pending) = walk.entries(&mut visit)? else { return Ok(()) };
    let mut levels = vec![(0, pending)];
    while let Some((above_bytes, pending)) = levels.last_mut() {
        let Some(name) = pending.pop() else {
            walk.dirs.pop().map_err(|errno| walk.failed("openat", errno))?;
            walk.path.truncate(*above_bytes);
            levels.pop();
            continue;
        };
        let above_bytes = walk.path.len();
        push_name(&mut walk.path, &name);
        let dir = match open_dir_at(walk.dirs.current(), name.as_c_str()) {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                walk.path.truncate(above_bytes);
                continue;
            }
            opened => opened.map_err(|errno| walk.failed("openat", errno))?,
        };
        walk.dirs.push(dir).map_err(|errno| walk.failed("fstat", errno))?;
        let Some(pending) = walk.entries(&mut visit)? else { return Ok(()) };
        levels.push((above_bytes, pending));
    }
    Ok(())
}

struct Walk {
    dirs: DirStack,
    buffer: Buffer,
    /// Of the current directory, relative to the root.
    path: Vec<u8>,
}

impl Walk {
    /// Visits the entries of the current directory; returns the directories among them, or `None` to stop.
    fn entries(
        &mut self,
        visit: &mut impl FnMut(&Visited<'_>) -> Result<bool>,
    ) -> Result<Option<Vec<CString>>> {
        let dir = self.dirs.current();
        let listing =
            Listing::read(dir, &mut self.buffer).map_err(|errno| self.failed("getdents64", errno))?;
        let mut directories = Vec::new();
        for name in (0..listing.len()).filter_map(|index| listing.name(index)) {
            let mut path = self.path.clone();
            push_name(&mut path, name);
            let stat = match lstat_at(dir, name) {
                Err(Errno::ENOENT) => continue,
                stat => stat.map_err(|errno| Error::syscall("fstatat", as_path(&path), errno))?,
            };
            let visited = Visited { dir, name: name.to_owned(), path, stat };
            if !visit(&visited)? {
                return Ok(None);
            }
            if FileType::from_mode(stat.st_mode).is_dir() {
                directories.push(visited.name);
            }
        }
        Ok(Some(directories))
    }

    fn failed(&self, operation: &'static str, errno: Errno) -> Error {
        Error::syscall(operation, as_path(&self.path), errno)
    }
}
