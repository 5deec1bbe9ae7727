//! The tree of one subvolume: which inodes changed, and which paths they have.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use graphdriver_archive::{RootDir, SuspectPlace, Suspects};
use graphdriver_sys::btrfs::item::{self, Inode};
use graphdriver_sys::btrfs::search::{Buffer, Key, LAST_INODE, ROOT_TREE, Range, Search};
use graphdriver_sys::btrfs::subvolume::ROOT_INODE;
use nix::Result;
use nix::errno::Errno;

use super::directories::Directories;

/// How deep a directory may lie. What the disk says is not trusted to have an end.
const MAX_DEPTH: usize = 1 << 20;

/// The files of a subvolume by their inode numbers.
pub(super) struct Tree<'a> {
    root: &'a RootDir,
    id: u64,
    /// Where directories are, as far as was asked: `None` for one that is gone.
    directories: RefCell<HashMap<u64, Option<Name>>>,
    /// For the many small searches.
    buffer: RefCell<Buffer>,
}

/// A name of an inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) directory: u64,
    pub(super) name: Vec<u8>,
}

/// An inode that changed.
struct Changed {
    number: u64,
    state: Inode,
    /// Fewer than there are when not all were met on the way.
    names: Vec<Name>,
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
struct Changes {
    /// Each with all its names.
    changed: Vec<Changed>,
    /// Names that are gone.
    lost: Vec<Name>,
    /// The directories that may have lost others.
    to_list: HashSet<u64>,
}

/// Numbers of inodes.
type Gap = RangeInclusive<u64>;

/// How many items are looked at of what was in a gap: some inodes.
const ITEMS_OF_GAP: u32 = 16;

/// How a directory is reached.
struct Way {
    /// Inode number of where it begins.
    from: u64,
    /// Inode numbers and names from there on, down to the directory.
    steps: Vec<(u64, Vec<u8>)>,
}

impl<'a> Tree<'a> {
    /// That of the subvolume `id`, whose root is open.
    pub(super) fn new(root: &'a RootDir, id: u64) -> Self {
        Self { root, id, directories: RefCell::default(), buffer: RefCell::default() }
    }

    /// Adds the paths of everything that the transaction `since` or a later one changed, and of the subvolumes inside, which have trees of their own. Before `since`, this tree and `other` were the same.
    ///
    /// What is moved or removed meanwhile may be missed, as in every walk over files in use.
    pub(super) fn suspect(&self, since: u64, other: &Self, suspects: &mut Suspects) -> Result<()> {
        let mut places = HashMap::from([(ROOT_INODE, Some(suspects.root()))]);
        let Changes { changed, lost, to_list } = self.changes(since, other)?;
        for Changed { number, names, .. } in changed {
            let is_listed = to_list.contains(&number);
            if number == ROOT_INODE && is_listed {
                suspects.list(suspects.root());
            }
            for Name { directory, name } in names {
                let Some(directory) = self.place(directory, &mut places, suspects)? else { continue };
                let place = suspects.add(directory, &name);
                if is_listed {
                    suspects.list(place);
                }
            }
        }
        for Name { directory, name } in lost.into_iter().chain(self.inner_subvolumes()?) {
            if let Some(directory) = self.place(directory, &mut places, suspects)? {
                suspects.add(directory, &name);
            }
        }
        Ok(())
    }

    /// What changed and was not only read.
    fn changes(&self, since: u64, other: &Self) -> Result<Changes> {
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

    /// All paths of a file, from the root of the subvolume.
    pub(super) fn paths(&self, inode: u64) -> Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for Name { directory, name } in self.names(inode, u32::MAX)? {
            let Some(way) = self.way_to(directory, |inode| inode == ROOT_INODE)? else { continue };
            let mut path = Vec::new();
            for (_, step) in &way.steps {
                path.extend_from_slice(step);
                path.push(b'/');
            }
            path.extend(name);
            paths.push(OsString::from_vec(path).into());
        }
        Ok(paths)
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

    /// What the tree has of an inode.
    fn inode(&self, number: u64) -> Result<Option<Inode>> {
        let key = Key { object: number, item_type: item::INODE_ITEM, offset: 0 };
        let range = Range { tree: self.id, first: key, last: key, since: 0 };
        let mut buffer = self.buffer.borrow_mut();
        let mut search = Search::new(self.fd(), range, &mut buffer).at_most(1);
        search.next_item()?.map(|found| Inode::parse(found.data)).transpose()
    }

    /// All names of an inode, of which there are `links` at most.
    fn names(&self, inode: u64, links: u32) -> Result<Vec<Name>> {
        let key = |item_type, offset| Key { object: inode, item_type, offset };
        let range = Range {
            tree: self.id,
            first: key(item::INODE_REF, 0),
            last: key(item::INODE_EXTREF, u64::MAX),
            since: 0,
        };
        let mut names = Vec::new();
        let mut buffer = self.buffer.borrow_mut();
        // Each item has a name or more.
        let mut search = Search::new(self.fd(), range, &mut buffer).at_most(links);
        while let Some(item) = search.next_item()? {
            for name in item::names(item) {
                names.push(name?.into());
            }
        }
        Ok(names)
    }

    /// Where the subvolumes directly inside of this one are.
    fn inner_subvolumes(&self) -> Result<Vec<Name>> {
        let key = |offset| Key { object: self.id, item_type: item::ROOT_REF, offset };
        let range = Range { tree: ROOT_TREE, first: key(0), last: key(u64::MAX), since: 0 };
        let mut names = Vec::new();
        let mut buffer = Buffer::new();
        let mut search = Search::new(self.fd(), range, &mut buffer);
        while let Some(item) = search.next_item()? {
            names.push(item::subvolume_name(item.data)?.into());
        }
        Ok(names)
    }

    /// The place of a directory among the suspects; `None` when it is gone.
    fn place(
        &self,
        directory: u64,
        places: &mut HashMap<u64, Option<SuspectPlace>>,
        suspects: &mut Suspects,
    ) -> Result<Option<SuspectPlace>> {
        let Some(way) = self.way_to(directory, |inode| places.contains_key(&inode))? else {
            places.insert(directory, None);
            return Ok(None);
        };
        let mut place = places.get(&way.from).copied().flatten();
        for (inode, name) in way.steps {
            place = place.map(|above| suspects.add(above, &name));
            places.insert(inode, place);
        }
        Ok(place)
    }

    /// The way to a directory, from the nearest one above it (or itself) that `is_known`; `None` when one of those between is gone.
    fn way_to(&self, directory: u64, is_known: impl Fn(u64) -> bool) -> Result<Option<Way>> {
        let mut steps = Vec::new();
        let mut from = directory;
        while !is_known(from) {
            if steps.len() == MAX_DEPTH {
                return Err(Errno::ELOOP);
            }
            let Some(found) = self.directory(from)? else { return Ok(None) };
            steps.push((from, found.name));
            from = found.directory;
        }
        steps.reverse();
        Ok(Some(Way { from, steps }))
    }

    /// Where a directory is; `None` when it is gone.
    fn directory(&self, inode: u64) -> Result<Option<Name>> {
        if let Some(known) = self.directories.borrow().get(&inode) {
            return Ok(known.clone());
        }
        let name = self.names(inode, 1)?.pop();
        self.directories.borrow_mut().insert(inode, name.clone());
        Ok(name)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

impl From<item::Name<'_>> for Name {
    fn from(name: item::Name<'_>) -> Self {
        Self { directory: name.directory, name: name.name.to_vec() }
    }
}
