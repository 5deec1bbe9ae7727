//! Files with several names, of which only some changed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use graphdriver_sys::FileType;
use nix::libc::{dev_t, ino_t};
use nix::sys::stat::FileStat;

use crate::change::{Change, ChangeKind};

/// The names of such files in the newer tree, as one thread met them.
#[derive(Default)]
pub(super) struct LinkedNames {
    changed: HashSet<Inode>,
    same: Vec<(Inode, PathBuf)>,
    /// How many names a file has, and how many of them were met.
    names: HashMap<Inode, (u64, u64)>,
}

type Inode = (dev_t, ino_t);

impl LinkedNames {
    /// Takes note of a name of the file that `stat` is of.
    pub(super) fn note(&mut self, stat: &FileStat, changed: bool, path: impl FnOnce() -> PathBuf) {
        if stat.st_nlink < 2 || FileType::from_mode(stat.st_mode).is_dir() {
            return;
        }
        let inode = (stat.st_dev, stat.st_ino);
        self.names.entry(inode).or_insert((stat.st_nlink, 0)).1 += 1;
        if changed {
            self.changed.insert(inode);
        } else {
            self.same.push((inode, path()));
        }
    }

    /// Adds what another thread met.
    pub(super) fn extend(&mut self, other: Self) {
        self.changed.extend(other.changed);
        self.same.extend(other.same);
        for (inode, (links, met)) in other.names {
            self.names.entry(inode).or_insert((links, 0)).1 += met;
        }
    }

    /// The inode numbers of changed files on the device of which not every name was met.
    pub(super) fn incomplete_on(&self, device: dev_t) -> BTreeSet<ino_t> {
        let is_incomplete = |inode: &&Inode| self.names.get(*inode).is_some_and(|(links, met)| met < links);
        let changed = self.changed.iter().filter(|(dev, _)| *dev == device);
        changed.filter(is_incomplete).map(|(_, ino)| *ino).collect()
    }

    /// The unchanged names of files that have a changed name too, as modified: without them in it, an archive could not say that both are one file.
    pub(super) fn brought_along(self) -> impl Iterator<Item = Change> {
        let Self { changed, same, .. } = self;
        let brought = same.into_iter().filter(move |(inode, _)| changed.contains(inode));
        brought.map(|(_, path)| Change::new(path, ChangeKind::Modify))
    }
}
