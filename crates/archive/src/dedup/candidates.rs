//! Which files could be equal: those of one size on one file system.

use std::collections::{HashMap, HashSet};

use graphdriver_sys::FileType;
use nix::sys::stat::FileStat;

use crate::error::Result;
use crate::root::RootDir;
use crate::walk::visit_tree;

/// The unit of `st_blocks`, in bytes.
const STAT_BLOCK: u64 = 512;

/// At least two files of one size.
pub(super) struct Group {
    pub(super) device: u64,
    pub(super) bytes: u64,
    /// In the order of the trees.
    pub(super) files: Vec<Candidate>,
}

pub(super) struct Candidate {
    /// Which of the trees it is in.
    pub(super) root: usize,
    /// By which of its names it was found first.
    pub(super) path: Box<[u8]>,
}

/// The groups of all `roots`. Each inode is in there once, by whichever name, however often its tree is named.
pub(super) fn find(roots: &[RootDir]) -> Result<Vec<Group>> {
    let counts = count(roots)?;
    let mut groups: HashMap<(u64, u64), Vec<Candidate>> = HashMap::new();
    each_file(roots, |root, path, key| {
        if counts.get(&key).is_some_and(|count| *count > 1) {
            groups.entry(key).or_default().push(Candidate { root, path: path.into() });
        }
    })?;
    let group = |((device, bytes), files)| Group { device, bytes, files };
    Ok(groups.into_iter().map(group).filter(|group| group.files.len() > 1).collect())
}

/// How many files there are of each size, so that the paths of those that are alone need not be kept.
fn count(roots: &[RootDir]) -> Result<HashMap<(u64, u64), u32>> {
    let mut counts: HashMap<_, u32> = HashMap::new();
    each_file(roots, |_, _, key| {
        let count = counts.entry(key).or_default();
        *count = count.saturating_add(1);
    })?;
    Ok(counts)
}

/// Calls `visit` with tree, path, and device and size of every file that has contents without holes.
fn each_file(roots: &[RootDir], mut visit: impl FnMut(usize, &[u8], (u64, u64))) -> Result<()> {
    let mut linked = HashSet::new();
    for (index, root) in roots.iter().enumerate() {
        visit_tree(root, |visited| {
            let stat = &visited.stat;
            let first = stat.st_nlink < 2 || linked.insert((stat.st_dev, stat.st_ino));
            if let Some(bytes) = full_size(stat).filter(|_| first) {
                visit(index, &visited.path, (stat.st_dev, bytes));
            }
            Ok(true)
        })?;
    }
    Ok(())
}

/// The size of a regular file that has contents and no holes. A file that is little more than holes may claim any size, and reading it would take as long.
fn full_size(stat: &FileStat) -> Option<u64> {
    let bytes = u64::try_from(stat.st_size).ok().filter(|bytes| *bytes > 0)?;
    let stored = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(STAT_BLOCK);
    (FileType::from_mode(stat.st_mode).is_file() && stored >= bytes).then_some(bytes)
}
