//! Visiting every directory of a tree, in no particular order.

use std::ffi::CString;
use std::os::fd::{BorrowedFd, OwnedFd};

use graphdriver_sys::FileType;
use graphdriver_sys::dents::Buffer;
use nix::errno::Errno;
use nix::sys::stat::FileStat;

use super::{Crew, DirStack, Listing, as_path, lstat_at, open_dir_at, push_name, run_crew};
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
    Walk::start(Subtree::whole(root)?).run(None, &mut visit)
}

/// Like [`visit_tree`], by several threads at once. The entries of one directory are visited by one thread.
pub(crate) fn visit_tree_shared(
    root: &RootDir,
    visit: impl Fn(&Visited<'_>) -> Result<()> + Sync,
) -> Result<()> {
    run_crew(Subtree::whole(root)?, |crew, subtrees| {
        for subtree in subtrees {
            Walk::start(subtree).run(Some(crew), &mut |visited| visit(visited).map(|()| !crew.stopped()))?;
        }
        Ok(())
    })?;
    Ok(())
}

/// A directory with all that is in it, itself visited already.
struct Subtree {
    dir: OwnedFd,
    /// Relative to the root.
    path: Vec<u8>,
}

impl Subtree {
    fn whole(root: &RootDir) -> Result<Self> {
        let dir = open_dir_at(root, ".").map_err(|errno| Error::syscall("openat", root.path(), errno))?;
        Ok(Self { dir, path: Vec::new() })
    }
}

struct Walk {
    dirs: DirStack,
    buffer: Buffer,
    /// Of the current directory, relative to the root.
    path: Vec<u8>,
}

impl Walk {
    fn start(subtree: Subtree) -> Self {
        Self { dirs: DirStack::new(subtree.dir), buffer: Buffer::new(), path: subtree.path }
    }

    /// Visits everything; what a thread of the crew waits for is left to it.
    fn run(
        mut self,
        crew: Option<&Crew<Subtree>>,
        visit: &mut impl FnMut(&Visited<'_>) -> Result<bool>,
    ) -> Result<()> {
        let Some(pending) = self.entries(visit)? else { return Ok(()) };
        let mut levels = vec![(self.path.len(), pending)];
        while let Some((above_bytes, pending)) = levels.last_mut() {
            let Some(name) = pending.pop() else {
                self.dirs.pop().map_err(|errno| self.failed("openat", errno))?;
                self.path.truncate(*above_bytes);
                levels.pop();
                continue;
            };
            let above_bytes = self.path.len();
            push_name(&mut self.path, &name);
            let dir = match open_dir_at(self.dirs.current(), name.as_c_str()) {
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                    self.path.truncate(above_bytes);
                    continue;
                }
                opened => opened.map_err(|errno| self.failed("openat", errno))?,
            };
            if let Some(crew) = crew.filter(|crew| crew.wants_work()) {
                crew.give(Subtree { dir, path: self.path.clone() });
                self.path.truncate(above_bytes);
                continue;
            }
            self.dirs.push(dir).map_err(|errno| self.failed("fstat", errno))?;
            let Some(pending) = self.entries(visit)? else { return Ok(()) };
            levels.push((above_bytes, pending));
        }
        Ok(())
    }

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
