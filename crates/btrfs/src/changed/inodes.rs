//! Which inodes of a tree changed, and which names they won and lost.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use graphdriver_sys::btrfs::item::{self, Inode};
use graphdriver_sys::btrfs::search::{Buffer, Key, LAST_INODE, Range, Search};
use graphdriver_sys::btrfs::subvolume::ROOT_INODE;
use nix::Result;

use super::directories::Directories;
use super::tree::{Name, Tree};

/// An inode that changed.
pub(super) struct Changed {
    pub(super) number: u64,
    state: Inode,
    /// Fewer than there are when not all were met on the way.
    pub(super) names: Vec<Name>,
}

impl Changed {
    /// Its names that are new, and those in `other` that it has no more. None are told of a file that has one name in a directory that is as it was.
    fn moves(
        &self,
        since: u64,
        other: &Tree<'_>,
        directories: &Directories,
    ) -> Result<(Vec<&Name>, Vec<Name>)> {
        let is_where_it_was = !self.names.iter().any(|name| directories.contains(name.directory));
        if is_where_it_was && self.state.links == 1 {
            return Ok((Vec::new(), Vec::new()));
        }
        let is_new = self.state.created_at >= since;
        let before = if is_new { Vec::new() } else { other.names(self.number, u32::MAX)? };
        let gained = self.names.iter().filter(|name| !before.contains(name)).collect();
        let lost = before.into_iter().filter(|name| !self.names.contains(name)).collect();
        Ok((gained, lost))
    }
}

/// What differs from an earlier state of the tree.
pub(super) struct Changes {
    /// Each with all its names.
    pub(super) changed: Vec<Changed>,
    /// Names that are gone.
    pub(super) lost: Vec<Name>,
    /// The directories that may have lost others.
    pub(super) to_list: HashSet<u64>,
}

/// Numbers of inodes.
type Gap = RangeInclusive<u64>;

/// How many items are looked at of what was in a gap: some inodes.
const ITEMS_OF_GAP: u32 = 16;

impl Tree<'_> {
    /// What changed and was not only read.
    pub(super) fn changes(&self, since: u64, other: &Self) -> Result<Changes> {
        let (found, gaps) = self.changed(since)?;
        let (changed, mut directories) = self.without_read(found, since, other)?;
        let mut lost = Vec::new();
        for inode in &changed {
            let (gained_by_it, lost_by_it) = inode.moves(since, other, &directories)?;
            for name in gained_by_it {
                directories.gained(name);
            }
            lost.extend(lost_by_it);
        }
        for name in &lost {
            directories.lost(name);
        }
        if !directories.are_explained() {
            for name in self.names_of_removed(&gaps, other)? {
                directories.lost(&name);
                lost.push(name);
            }
        }
        Ok(Changes { changed, lost, to_list: directories.unexplained() })
    }

    /// Leaves out directories that were only read, and completes the names of all others.
    fn without_read(
        &self,
        found: Vec<Changed>,
        since: u64,
        other: &Self,
    ) -> Result<(Vec<Changed>, Directories)> {
        // Their names count for the sizes of directories, and nothing tells when they got them.
        let has_subvolumes = !self.inner_subvolumes()?.is_empty() || !other.inner_subvolumes()?.is_empty();
        let mut directories = Directories::default();
        let mut changed = Vec::new();
        for mut inode in found {
            let Changed { number, state, .. } = inode;
            if state.file_type.is_dir() {
                if let [name] = &inode.names[..] {
                    self.note_directory(number, name);
                }
                // Reading a directory marks it as changed now and then, and who walks over a tree reads all of them.
                let before = other.inode(number)?.filter(|before| before.changed_at < since);
                if before.is_some_and(|before| state.is_unchanged_since(&before)) {
                    continue;
                }
                directories.add(number, &state, before.filter(|_| !has_subvolumes).as_ref());
            }
            let is_complete = inode.names.len() >= usize::try_from(state.links).unwrap_or(usize::MAX);
            if number != ROOT_INODE && !is_complete {
                inode.names = self.names(number, state.links)?;
            }
            changed.push(inode);
        }
        Ok((changed, directories))
    }

    /// What changed, with the names that lie in blocks that were written, too; and between which numbers no inode was met on the way, or none that has a name.
    fn changed(&self, since: u64) -> Result<(Vec<Changed>, Vec<Gap>)> {
        let range =
            Range { tree: self.id, first: Key::first_of(ROOT_INODE), last: Key::last_of(LAST_INODE), since };
        let (mut found, mut gaps) = (Vec::<Changed>::new(), Vec::new());
        // The first number that has not been passed; the root is always there.
        let mut next = ROOT_INODE + 1;
        let mut buffer = Buffer::new();
        let mut search = Search::new(self.fd(), range, &mut buffer);
        while let Some(item) = search.next_item()? {
            let number = item.key.object;
            if number > next {
                gaps.push(next..=number - 1);
            }
            next = number + 1;
            match item.key.item_type {
                item::INODE_ITEM => {
                    let state = Inode::parse(item.data)?;
                    if state.links == 0 {
                        gaps.push(number..=number);
                    } else if state.changed_at >= since {
                        found.push(Changed { number, state, names: Vec::new() });
                    }
                }
                _ => {
                    if let Some(changed) = found.last_mut().filter(|last| last.number == number)
                        && changed.number != ROOT_INODE
                    {
                        for name in item::names(item) {
                            changed.names.push(name?.into());
                        }
                    }
                }
            }
        }
        gaps.push(next..=LAST_INODE);
        Ok((found, gaps))
    }

    /// The names that inodes have in `other` which are gone from this tree, as far as they are first in one of the gaps.
    ///
    /// A gap is between the inodes of one block, and what was in it is gone; or it is between blocks, and begins with what was last in the first of them and is gone, if anything is.
    fn names_of_removed(&self, gaps: &[Gap], other: &Self) -> Result<Vec<Name>> {
        let mut names = Vec::new();
        let mut buffer = Buffer::new();
        for gap in gaps {
            let [first, last] = [Key::first_of(*gap.start()), Key::last_of(*gap.end())];
            let range = Range { tree: other.id, first, last, since: 0 };
            let mut search = Search::new(other.fd(), range, &mut buffer).at_most(ITEMS_OF_GAP);
            let mut number = 0;
            while let Some(item) = search.next_item()? {
                if item.key.object != number {
                    number = item.key.object;
                    if self.inode(number)?.is_some_and(|inode| inode.links > 0) {
                        break;
                    }
                }
                for name in item::names(item) {
                    names.push(name?.into());
                }
            }
        }
        Ok(names)
    }
}
