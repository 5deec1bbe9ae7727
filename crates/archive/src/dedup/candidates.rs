//! Which files could be equal: those of one size on one file system.

use std::collections::{HashMap, HashSet};

use graphdriver_sys::{FileType, btrfs};
use nix::sys::stat::{FileStat, fstat};

use crate::error::{Error, Result};
use crate::root::RootDir;
use crate::walk::visit_tree;

/// The unit of `st_blocks`, in bytes.
const STAT_BLOCK: u64 = 512;

/// At least two files of one size.
pub(super) struct Group {
    /// As [`Volumes::device`] has it.
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

/// Which file system a device number stands for: every subvolume of btrfs has a number of its own, and they share blocks all the same.
#[derive(Debug, Default)]
pub(super) struct Volumes {
    /// For those that are not the first of their file system, the first one.
    firsts: HashMap<u64, u64>,
}

impl Volumes {
    /// The file systems that the roots themselves are on.
    pub(super) fn of(roots: &[RootDir]) -> Result<Self> {
        let mut firsts = HashMap::new();
        let mut volumes = HashMap::new();
        for root in roots {
            let Ok(volume) = btrfs::volume_id(root) else { continue };
            let device = fstat(root).map_err(|errno| Error::syscall("fstat", root.path(), errno))?.st_dev;
            firsts.insert(device, *volumes.entry(volume).or_insert(device));
        }
        Ok(Self { firsts })
    }

    /// One number for all devices of a file system.
    pub(super) fn device(&self, device: u64) -> u64 {
        self.firsts.get(&device).copied().unwrap_or(device)
    }
}

/// The groups of all `roots`. Each inode is in there once, by whichever name, however often its tree is named.
pub(super) fn find(roots: &[RootDir], volumes: &Volumes) -> Result<Vec<Group>> {
    let counts = count(roots, volumes)?;
    let mut groups: HashMap<(u64, u64), Vec<Candidate>> = HashMap::new();
    each_file(roots, volumes, |root, path, key| {
        if counts.get(&key).is_some_and(|count| *count > 1) {
            groups.entry(key).or_default().push(Candidate { root, path: path.into() });
        }
    })?;
    let group = |((device, bytes), files)| Group { device, bytes, files };
    Ok(groups.into_iter().map(group).filter(|group| group.files.len() > 1).collect())
}

/// How many files there are of each size, so that the paths of those that are alone need not be kept.
fn count(roots: &[RootDir], volumes: &Volumes) -> Result<HashMap<(u64, u64), u32>> {
    let mut counts: HashMap<_, u32> = HashMap::new();
    each_file(roots, volumes, |_, _, key| {
        let count = counts.entry(key).or_default();
        *count = count.saturating_add(1);
    })?;
    Ok(counts)
}

/// Calls `visit` with tree, path, and device and size of every file that has contents without holes.
fn each_file(
    roots: &[RootDir],
    volumes: &Volumes,
    mut visit: impl FnMut(usize, &[u8], (u64, u64)),
) -> Result<()> {
    let mut linked = HashSet::new();
    for (index, root) in roots.iter().enumerate() {
        visit_tree(root, |visited| {
            let stat = &visited.stat;
            let first = stat.st_nlink < 2 || linked.insert((stat.st_dev, stat.st_ino));
            if let Some(bytes) = full_size(stat).filter(|_| first) {
                visit(index, &visited.path, (volumes.device(stat.st_dev), bytes));
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
