//! What changed in a subvolume, told from the ages of its tree's blocks.
//!
//! btrfs never writes to a block that a snapshot shares: a change is written elsewhere, with the number of its transaction, and so are the blocks above it up to the root of the tree. Who
//! looks for what a later transaction wrote than the one that made a snapshot is led to the blocks that differ, past everything that both still share. Every change of a file, of its
//! names or of a directory's names writes the inode with the transaction's number in it. So the inodes with a later number, of both trees, are all that can
//! differ. What was removed has left no inode, but a gap: the older tree is asked for its names. Where these and the new names do not explain the size of a directory, all of its names are compared.

mod directories;
mod flush;
mod inodes;
mod lineage;
mod tree;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use graphdriver_archive::{self as archive, Change, CompareOptions, ContentCheck, RootDir, Suspects};
use graphdriver_core::{Error, Result};
use graphdriver_sys::btrfs::search::{Buffer, Key, ROOT_TREE, Range, Search};
use nix::errno::Errno;

use self::flush::flush;
use self::tree::Tree;
use crate::subvolume::known_of;

/// What differs in `new` from `old`; `None` when that cannot be found so, because one is not a snapshot of the other, nor both of a third, or because somebody put a directory in
/// the place of a layer.
///
/// Both lie in the home, or below it.
///
/// # Errors
/// `PermissionDenied` without `CAP_SYS_ADMIN` in the initial user namespace; `NoSpace`; `Io`.
pub(crate) fn changes(home: &Path, new: &RootDir, old: &RootDir) -> Result<Option<Vec<Change>>> {
    let known = |root| match known_of(root) {
        Err(error) if error.errno() == Some(Errno::ENOTTY) => Ok(None),
        info => info,
    };
    let (Some(new_info), Some(old_info)) = (known(new)?, known(old)?) else {
        return Ok(None);
    };
    let infos = [new_info, old_info];
    let Some(parted_at) = lineage::parted_at(new, &infos).map_err(unreadable(new))? else {
        return Ok(None);
    };
    let trees = [Tree::new(new, infos[0].id), Tree::new(old, infos[1].id)];
    // What is not in the trees cannot be found in them.
    flush(home, [new, old])?;
    compare([new, old], &trees, parted_at).map(Some)
}

/// What differs between subvolumes that were the same until the transaction `parted_at`, which made one of the other.
fn compare([new, old]: [&RootDir; 2], trees: &[Tree<'_>; 2], parted_at: u64) -> Result<Vec<Change>> {
    let [new_tree, old_tree] = trees;
    let mut suspects = Suspects::new();
    // What the transaction itself wrote is older than the snapshot: making one is the last that it does.
    new_tree.suspect(parted_at + 1, old_tree, &mut suspects).map_err(unreadable(new))?;
    old_tree.suspect(parted_at + 1, new_tree, &mut suspects).map_err(unreadable(old))?;
    if suspects.is_empty() {
        return Ok(Vec::new());
    }
    let options = CompareOptions { content: ContentCheck::Blocks, ..CompareOptions::default() };
    let other_names = |inodes: &BTreeSet<u64>| -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for inode in inodes {
            paths.extend(new_tree.paths(*inode)?);
        }
        Ok(paths)
    };
    Ok(archive::changes_among(&suspects, new, old, &options, &other_names)?)
}

fn unreadable(root: &RootDir) -> impl Fn(Errno) -> Error {
    |errno| Error::syscall("search tree", root.path(), errno)
}

/// Why [`changes`] cannot work here, if it cannot: trees may be searched with `CAP_SYS_ADMIN` in the initial user namespace only.
pub(crate) fn unavailable(root: &RootDir) -> Option<Errno> {
    let first = Key::first_of(0);
    let nothing = Range { tree: ROOT_TREE, first, last: first, since: 0 };
    Search::new(root, nothing, &mut Buffer::new()).next_item().err()
}
