//! What differs between two trees.

use std::collections::BTreeSet;
use std::ffi::{CStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use graphdriver_sys::FileType;
use graphdriver_sys::dents::Buffer;
use nix::errno::Errno;
use nix::libc::dev_t;
use nix::sys::stat::{FileStat, fstat};

use super::compare::{Comparison, Side};
use super::level::{Level, Next};
use super::linked::LinkedNames;
use super::options::CompareOptions;
use super::parents::with_parents;
use super::suspects::{SuspectPlace, Suspects};
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
    let first = Pair { path: Vec::new(), new: open(new)?, old: old.map(open).transpose()?, suspect: None };
    let (mut all, linked) = compare(first, &Trees { suspects: None, old: old.is_some(), options })?;
    all.extend(linked.brought_along());
    Ok(with_parents(all))
}

/// What [`changes`] finds, for two trees of one origin of which it is known where they may differ; takes time for that only.
///
/// The trees come from one tree, as a snapshot and what it was made of do: files of the same inode number in both were the same file once. `suspects` are
///
/// - every file and directory of either tree that has changed since, by itself (what a directory holds does not count) or because it has got a name more or less;
/// - every directory of either tree that has lost a name since, or has won one that is not among the suspects, to be [listed](Suspects::list);
/// - every place at which another tree begins in one of them, as a subvolume does.
///
/// All other directories that [lead](Suspects::lead) to these are the same ones in both trees, and are not compared. A place that is suspect in vain costs time only. Where files of `new` changed of which not all names are at suspect places, `other_names` is asked once for all
/// paths, from the root, of the files with these inode numbers; [`names_of`](super::names_of) searches for them.
///
/// # Errors
/// As [`changes`]; `Io` when `other_names` fails.
pub fn changes_among(
    suspects: &Suspects,
    new: &RootDir,
    old: &RootDir,
    options: &CompareOptions,
    other_names: &dyn Fn(&BTreeSet<u64>) -> io::Result<Vec<PathBuf>>,
) -> Result<Vec<Change>> {
    let (new_fd, old_fd) = (open(new)?, open(old)?);
    let failed = |errno| Error::syscall("fstat", new.path(), errno);
    let device = fstat(&new_fd).map_err(failed)?.st_dev;
    let devices = [device, fstat(&old_fd).map_err(failed)?.st_dev];
    let first = Pair { path: Vec::new(), new: new_fd, old: Some(old_fd), suspect: Some(suspects.root()) };
    let (mut all, linked) =
        compare(first, &Trees { suspects: Some((suspects, devices)), old: true, options })?;
    let incomplete = linked.incomplete_on(device);
    if !incomplete.is_empty() {
        let names = other_names(&incomplete).map_err(|error| Error::io("find the names of a file", error))?;
        all.extend(names.into_iter().map(|path| Change::new(Path::new("/").join(path), ChangeKind::Modify)));
    }
    all.extend(linked.brought_along());
    Ok(with_parents(all))
}

fn open(root: &RootDir) -> Result<OwnedFd> {
    open_dir_at(root, ".").map_err(|errno| Error::syscall("openat", root.path(), errno))
}

/// What is known of the trees before they are walked.
struct Trees<'a> {
    /// Where they may differ, and the devices of their roots.
    suspects: Option<(&'a Suspects, [dev_t; 2])>,
    /// Whether there is an older one.
    old: bool,
    options: &'a CompareOptions,
}

/// Walks both, and gives what differs and the names of files that have several.
fn compare(first: Pair, trees: &Trees<'_>) -> Result<(Vec<Change>, LinkedNames)> {
    let found = run_crew(first, |crew, pairs| {
        let mut walk = Walk::new(crew, trees);
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
    Ok((all, linked))
}

/// Two directories to be compared with all that is in them.
struct Pair {
    path: Vec<u8>,
    new: OwnedFd,
    old: Option<OwnedFd>,
    /// `None` when all that is in them is to be compared.
    suspect: Option<SuspectPlace>,
}

/// One thread's part of the comparison.
struct Walk<'a> {
    crew: &'a Crew<Pair>,
    trees: &'a Trees<'a>,
    comparison: Comparison<'a>,
    buffer: Buffer,
    /// Of the current directory, relative to the root.
    path: Vec<u8>,
    levels: Vec<Level>,
    linked: LinkedNames,
    found: Vec<Change>,
}

/// The directories of both sides down to the current one; no `old` below what was added.
struct Dirs {
    new: DirStack,
    old: Option<DirStack>,
}

impl<'a> Walk<'a> {
    fn new(crew: &'a Crew<Pair>, trees: &'a Trees<'a>) -> Self {
        Self {
            crew,
            trees,
            comparison: Comparison::new(trees.options),
            buffer: Buffer::new(),
            path: Vec::new(),
            levels: Vec::new(),
            linked: LinkedNames::default(),
            found: Vec::new(),
        }
    }

    fn pair(&mut self, pair: Pair) -> Result<()> {
        let paired = pair.old.is_some();
        let mut dirs = Dirs { new: DirStack::new(pair.new), old: pair.old.map(DirStack::new) };
        self.path = pair.path;
        self.enter(&dirs, paired, pair.suspect, self.path.len())?;
        while let Some(level) = self.levels.last_mut() {
            let (new, old, suspect) = (Rc::clone(&level.new), Rc::clone(&level.old), level.suspect);
            match level.next() {
                None => self.leave(&mut dirs)?,
                Some(Next::Deleted(index)) => self.record(old.name(index), ChangeKind::Delete),
                Some(Next::Added(index)) => {
                    self.added(&mut dirs, new.name(index).unwrap_or_default(), new.file_type(index))?;
                }
                Some(Next::Both { new: index, old: old_index }) => {
                    let name = new.name(index).unwrap_or_default();
                    let below = self.suspect_below(suspect, name);
                    let is_known = below.is_none() && new.ino(index) == old.ino(old_index);
                    if suspect.is_none() || !is_known {
                        self.both(&mut dirs, name, below)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads the directories that `dirs` stands in.
    fn enter(
        &mut self,
        dirs: &Dirs,
        paired: bool,
        suspect: Option<SuspectPlace>,
        above_bytes: usize,
    ) -> Result<()> {
        let (new, old) = match (suspect, self.trees.suspects) {
            (Some(place), Some((suspects, _))) if !suspects.is_listed(place) => {
                let names = Rc::new(Listing::of(suspects.names(place)));
                (Rc::clone(&names), names)
            }
            _ => self.list(dirs, paired)?,
        };
        self.levels.push(Level { new, old, new_index: 0, old_index: 0, paired, suspect, above_bytes });
        Ok(())
    }

    fn list(&mut self, dirs: &Dirs, paired: bool) -> Result<(Rc<Listing>, Rc<Listing>)> {
        let failed = |errno| Error::syscall("getdents64", as_path(&self.path), errno);
        let new = Listing::read(dirs.new.current(), &mut self.buffer).map_err(failed)?;
        let old = match &dirs.old {
            Some(old) if paired => Listing::read(old.current(), &mut self.buffer).map_err(failed)?,
            _ => Listing::default(),
        };
        Ok((Rc::new(new), Rc::new(old)))
    }

    /// The place of `name` in a directory of which not everything is to be compared.
    fn suspect_below(&self, suspect: Option<SuspectPlace>, name: &CStr) -> Option<SuspectPlace> {
        let (suspects, _) = self.trees.suspects?;
        suspects.below(suspect?, name)
    }

    /// Whether the directory there is no suspect itself.
    fn only_leads_on(&self, suspect: Option<SuspectPlace>) -> bool {
        matches!((suspect, self.trees.suspects), (Some(place), Some((suspects, _))) if !suspects.is_suspect(place))
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

    /// Records what was added, and goes into it if it is a directory.
    fn added(&mut self, dirs: &mut Dirs, name: &CStr, file_type: FileType) -> Result<()> {
        self.record(Some(name), ChangeKind::Add);
        if may_be_dir(dirs, name, file_type) {
            self.descend(dirs, name, false, None)?;
        } else if self.trees.old
            && let Some(stat) = self.stat(dirs.new.current(), name)?
        {
            self.linked.note(&stat, true, PathBuf::new);
        }
        Ok(())
    }

    /// Compares what both sides have; without listings, what one of them may have.
    fn both(&mut self, dirs: &mut Dirs, name: &CStr, suspect: Option<SuspectPlace>) -> Result<()> {
        let Some(old_dirs) = &dirs.old else { return Ok(()) };
        let (new_dir, old_dir) = (dirs.new.current(), old_dirs.current());
        if self.only_leads_on(suspect)
            && let Some([new, old]) = self.open_same([new_dir, old_dir], name)?
        {
            return self.go_into(dirs, name, new, Some(old), suspect);
        }
        let (new, old) = (self.stat(new_dir, name)?, self.stat(old_dir, name)?);
        let (new, old) = match (new, old) {
            (Some(new), Some(old)) => (new, old),
            (Some(_), None) => return self.added(dirs, name, FileType::Unknown),
            (None, Some(_)) => {
                self.record(Some(name), ChangeKind::Delete);
                return Ok(());
            }
            (None, None) => return Ok(()),
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
            let suspect = suspect.filter(|_| self.are_one_origin(&new, &old));
            self.descend(dirs, name, FileType::from_mode(old.st_mode).is_dir(), suspect)?;
        }
        Ok(())
    }

    /// Opens a directory of both sides; `None` when they are not the same one, as where something is mounted.
    fn open_same(&self, sides: [BorrowedFd<'_>; 2], name: &CStr) -> Result<Option<[OwnedFd; 2]>> {
        let [Some(new), Some(old)] = [self.open(sides[0], name)?, self.open(sides[1], name)?] else {
            return Ok(None);
        };
        let stat = |fd| fstat(fd).map_err(|errno| Error::syscall("fstat", self.below(name), errno));
        let are_same = self.are_one_origin(&stat(&new)?, &stat(&old)?);
        Ok(are_same.then_some([new, old]))
    }

    /// Whether both were the same directory once, and not the root of another tree.
    fn are_one_origin(&self, new: &FileStat, old: &FileStat) -> bool {
        let devices = self.trees.suspects.map(|(_, devices)| devices);
        new.st_ino == old.st_ino && devices == Some([new.st_dev, old.st_dev])
    }

    fn stat(&self, dir: impl AsFd, name: &CStr) -> Result<Option<FileStat>> {
        match lstat_at(dir, name) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(Error::syscall("fstatat", self.below(name), errno)),
        }
    }

    /// Goes into the directory `name`, or gives it to a thread that waits for work.
    fn descend(
        &mut self,
        dirs: &mut Dirs,
        name: &CStr,
        paired: bool,
        suspect: Option<SuspectPlace>,
    ) -> Result<()> {
        let Some(new) = self.open(dirs.new.current(), name)? else { return Ok(()) };
        let old = match &dirs.old {
            Some(old) if paired => self.open(old.current(), name)?,
            _ => None,
        };
        self.go_into(dirs, name, new, old, suspect)
    }

    /// As [`descend`](Self::descend), into what was opened on both sides.
    fn go_into(
        &mut self,
        dirs: &mut Dirs,
        name: &CStr,
        new: OwnedFd,
        old: Option<OwnedFd>,
        suspect: Option<SuspectPlace>,
    ) -> Result<()> {
        if self.crew.stopped() {
            self.levels.clear();
            return Ok(());
        }
        if self.crew.wants_work() {
            let mut path = self.path.clone();
            push_name(&mut path, name);
            self.crew.give(Pair { path, new, suspect: suspect.filter(|_| old.is_some()), old });
            return Ok(());
        }
        let (above_bytes, paired) = (self.path.len(), old.is_some());
        push_name(&mut self.path, name);
        let failed = |errno| Error::syscall("fstat", as_path(&self.path), errno);
        dirs.new.push(new).map_err(failed)?;
        if let (Some(dirs), Some(old)) = (&mut dirs.old, old) {
            dirs.push(old).map_err(failed)?;
        }
        self.enter(dirs, paired, suspect.filter(|_| paired), above_bytes)
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
