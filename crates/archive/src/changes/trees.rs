//! What differs between two trees.

use std::ffi::{CStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::rc::Rc;

use graphdriver_sys::FileType;
use graphdriver_sys::dents::Buffer;
use nix::errno::Errno;
use nix::sys::stat::FileStat;

use super::compare::{Comparison, Side};
use super::linked::LinkedNames;
use super::options::CompareOptions;
use super::parents::sort_with_parents;
use crate::change::{Change, ChangeKind};
use crate::error::{Error, Result};
use crate::root::RootDir;
use crate::walk::{Crew, DirStack, Listing, as_path, lstat_at, open_dir_at, push_name, run_crew};

/// What was added to, modified in and deleted from the tree `old` to make it the tree `new`, sorted by path; everything that `new` holds when
/// there is no `old`.
///
/// Two files are the same when their kind, mode, owner, device number, size, time of modification (to the nanosecond), symbolic link target
/// and extended attributes are, and, if [`content`](CompareOptions::content) asks for it, their contents. Directories too are compared by
/// time, but not by size. A directory with a change somewhere below it is listed as modified. Below a deleted directory, and below one that another kind of
/// file took the place of, nothing is listed. Where a file has several names and one of them was added or changed, the others are listed as modified.
///
/// The root directories themselves are not compared and never listed. Attributes of overlay mounts and of the host's security policy
/// (`security.selinux`) do not count; an owner without mapping is compared as it is on disk. Files that vanish during the walk count as deleted.
///
/// Takes time for each file in both trees; memory for one directory per level, for the names of files that have several, and for the result. Several
/// threads share the work.
///
/// # Errors
/// The kind of the failed system call, with the path inside the tree.
#[doc(alias = "ChangesDirs")]
pub fn changes(new: &RootDir, old: Option<&RootDir>, options: &CompareOptions) -> Result<Vec<Change>> {
    let open =
        |root: &RootDir| open_dir_at(root, ".").map_err(|errno| Error::syscall("openat", root.path(), errno));
    let first = Pair { path: Vec::new(), new: open(new)?, old: old.map(open).transpose()? };
    let found = run_crew(first, |crew, pairs| {
        let mut walk = Walk::new(crew, options, old.is_some());
        for pair in pairs {
            walk.pair(pair)?;
        }
        Ok((walk.found, walk.linked))
    })?;
    let mut all = Vec::new();
    let mut linked = LinkedNames::default();
    for (changes, names) in found {
        all.extend(changes);
        linked.extend(names);
    }
    all.extend(linked.brought_along());
    Ok(sort_with_parents(all, |_| true))
}

/// Two directories to be compared with all that is in them.
struct Pair {
    path: Vec<u8>,
    new: OwnedFd,
    old: Option<OwnedFd>,
}

/// One thread's part of the comparison.
struct Walk<'a> {
    crew: &'a Crew<Pair>,
    comparison: Comparison<'a>,
    buffer: Buffer,
    /// Of the current directory, relative to the root.
    path: Vec<u8>,
    levels: Vec<Level>,
    /// Whether there is an older tree, so that not everything is listed anyway.
    compares: bool,
    linked: LinkedNames,
    found: Vec<Change>,
}

/// The directories of both sides down to the current one; no `old` below what was added.
struct Dirs {
    new: DirStack,
    old: Option<DirStack>,
}

/// A directory whose entries are being compared.
struct Level {
    new: Rc<Listing>,
    old: Rc<Listing>,
    new_index: usize,
    old_index: usize,
    /// Whether both sides have this directory.
    paired: bool,
    /// Length of the path of the directory above.
    above_bytes: usize,
}

/// The next name of the two listings merged: its place in the newer one, or in the older for what only that has.
enum Next {
    Both(usize),
    Added(usize),
    Deleted(usize),
}

impl Level {
    fn next(&mut self) -> Option<Next> {
        let names = (self.new.name(self.new_index), self.old.name(self.old_index));
        let order = match names {
            (None, None) => return None,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(new), Some(old)) => new.cmp(old),
        };
        let at = (self.new_index, self.old_index);
        self.new_index += usize::from(order.is_le());
        self.old_index += usize::from(order.is_ge());
        Some(match order {
            std::cmp::Ordering::Equal => Next::Both(at.0),
            std::cmp::Ordering::Less => Next::Added(at.0),
            std::cmp::Ordering::Greater => Next::Deleted(at.1),
        })
    }
}

impl<'a> Walk<'a> {
    fn new(crew: &'a Crew<Pair>, options: &'a CompareOptions, compares: bool) -> Self {
        Self {
            crew,
            comparison: Comparison::new(options),
            buffer: Buffer::new(),
            path: Vec::new(),
            levels: Vec::new(),
            compares,
            linked: LinkedNames::default(),
            found: Vec::new(),
        }
    }

    fn pair(&mut self, pair: Pair) -> Result<()> {
        let paired = pair.old.is_some();
        let mut dirs = Dirs { new: DirStack::new(pair.new), old: pair.old.map(DirStack::new) };
        self.path = pair.path;
        self.enter(&dirs, paired, self.path.len())?;
        while let Some(level) = self.levels.last_mut() {
            let (new, old) = (Rc::clone(&level.new), Rc::clone(&level.old));
            match level.next() {
                None => self.leave(&mut dirs)?,
                Some(Next::Deleted(index)) => self.record(old.name(index), ChangeKind::Delete),
                Some(Next::Added(index)) => {
                    self.record(new.name(index), ChangeKind::Add);
                    self.added(&mut dirs, &new, index)?;
                }
                Some(Next::Both(index)) => self.both(&mut dirs, new.name(index).unwrap_or_default())?,
            }
        }
        Ok(())
    }

    /// Reads the directories that `dirs` stands in.
    fn enter(&mut self, dirs: &Dirs, paired: bool, above_bytes: usize) -> Result<()> {
        let failed = |errno| Error::syscall("getdents64", as_path(&self.path), errno);
        let new = Listing::read(dirs.new.current(), &mut self.buffer).map_err(failed)?;
        let old = match &dirs.old {
            Some(old) if paired => Listing::read(old.current(), &mut self.buffer).map_err(failed)?,
            _ => Listing::default(),
        };
        let (new, old) = (Rc::new(new), Rc::new(old));
        self.levels.push(Level { new, old, new_index: 0, old_index: 0, paired, above_bytes });
        Ok(())
    }

    fn leave(&mut self, dirs: &mut Dirs) -> Result<()> {
        let Some(done) = self.levels.pop() else { return Ok(()) };
        if self.levels.is_empty() {
            return Ok(());
        }
        let failed = |errno| Error::syscall("openat", as_path(&self.path).join(".."), errno);
        dirs.new.pop().map_err(failed)?;
        if let Some(old) = dirs.old.as_mut().filter(|_| done.paired) {
            old.pop().map_err(failed)?;
        }
        self.path.truncate(done.above_bytes);
        Ok(())
    }

    /// Goes into what was added, if it is a directory.
    fn added(&mut self, dirs: &mut Dirs, listing: &Listing, index: usize) -> Result<()> {
        let name = listing.name(index).unwrap_or_default();
        if may_be_dir(dirs, name, listing.file_type(index)) {
            self.descend(dirs, name, false)?;
        } else if self.compares
            && let Some(stat) = self.stat(dirs.new.current(), name)?
        {
            self.linked.note(&stat, true, PathBuf::new);
        }
        Ok(())
    }

    /// Compares what both sides have.
    fn both(&mut self, dirs: &mut Dirs, name: &CStr) -> Result<()> {
        let Some(old_dirs) = &dirs.old else { return Ok(()) };
        let (new_dir, old_dir) = (dirs.new.current(), old_dirs.current());
        let (new, old) = (self.stat(new_dir, name)?, self.stat(old_dir, name)?);
        let (Some(new), Some(old)) = (new, old) else {
            self.record(Some(name), if new.is_none() { ChangeKind::Delete } else { ChangeKind::Add });
            return Ok(());
        };
        let sides = (Side { dir: new_dir, name, stat: &new }, Side { dir: old_dir, name, stat: &old });
        match self.comparison.differ(sides.0, sides.1) {
            Ok(differ) => {
                self.linked.note(&new, differ, || below_root(&self.path, name));
                if differ {
                    self.record(Some(name), ChangeKind::Modify);
                }
            }
            Err(error) if error.errno() == Some(Errno::ENOENT) => self.record(Some(name), ChangeKind::Delete),
            Err(error) => return Err(error.path(self.below(name))),
        }
        if FileType::from_mode(new.st_mode).is_dir() {
            self.descend(dirs, name, FileType::from_mode(old.st_mode).is_dir())?;
        }
        Ok(())
    }

    fn stat(&self, dir: impl AsFd, name: &CStr) -> Result<Option<FileStat>> {
        match lstat_at(dir, name) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(Error::syscall("fstatat", self.below(name), errno)),
        }
    }

    /// Goes into the directory `name`, or gives it to a thread that waits for work.
    fn descend(&mut self, dirs: &mut Dirs, name: &CStr, paired: bool) -> Result<()> {
        if self.crew.stopped() {
            self.levels.clear();
            return Ok(());
        }
        let Some(new) = self.open(dirs.new.current(), name)? else { return Ok(()) };
        let old = match &dirs.old {
            Some(old) if paired => self.open(old.current(), name)?,
            _ => None,
        };
        if self.crew.wants_work() {
            let mut path = self.path.clone();
            push_name(&mut path, name);
            self.crew.give(Pair { path, new, old });
            return Ok(());
        }
        let (above_bytes, paired) = (self.path.len(), old.is_some());
        push_name(&mut self.path, name);
        let failed = |errno| Error::syscall("fstat", as_path(&self.path), errno);
        dirs.new.push(new).map_err(failed)?;
        if let (Some(dirs), Some(old)) = (&mut dirs.old, old) {
            dirs.push(old).map_err(failed)?;
        }
        self.enter(dirs, paired, above_bytes)
    }

    /// Opens a directory; `None` when it is gone or is none any more.
    fn open(&self, dir: impl AsFd, name: &CStr) -> Result<Option<OwnedFd>> {
        match open_dir_at(dir, name) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                tracing::warn!(path = ?self.below(name), "directory vanished while comparing");
                Ok(None)
            }
            Err(errno) => Err(Error::syscall("openat", self.below(name), errno)),
        }
    }

    fn record(&mut self, name: Option<&CStr>, kind: ChangeKind) {
        self.found.push(Change { path: below_root(&self.path, name.unwrap_or_default()), kind });
    }

    fn below(&self, name: &CStr) -> PathBuf {
        let mut path = self.path.clone();
        push_name(&mut path, name);
        as_path(&path).to_owned()
    }
}

/// The absolute path of `name` in the directory `path`, which is relative to the root.
fn below_root(path: &[u8], name: &CStr) -> PathBuf {
    let mut absolute = Vec::with_capacity(path.len() + name.count_bytes() + 2);
    absolute.push(b'/');
    absolute.extend_from_slice(path);
    if !path.is_empty() {
        absolute.push(b'/');
    }
    absolute.extend_from_slice(name.to_bytes());
    OsString::from_vec(absolute).into()
}

fn may_be_dir(dirs: &Dirs, name: &CStr, file_type: FileType) -> bool {
    match file_type {
        FileType::Unknown => {
            lstat_at(dirs.new.current(), name).is_ok_and(|stat| FileType::from_mode(stat.st_mode).is_dir())
        }
        known => known.is_dir(),
    }
}
