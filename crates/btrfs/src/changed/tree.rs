//! The tree of one subvolume: its inodes, and which paths they have.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use graphdriver_archive::{RootDir, SuspectPlace, Suspects};
use graphdriver_sys::btrfs::item::{self, Inode};
use graphdriver_sys::btrfs::search::{Buffer, Key, ROOT_TREE, Range, Search};
use graphdriver_sys::btrfs::subvolume::ROOT_INODE;
use nix::Result;
use nix::errno::Errno;

use super::inodes::{Changed, Changes};

/// How deep a directory may lie. What the disk says is not trusted to have an end.
const MAX_DEPTH: usize = 1 << 20;

/// The files of a subvolume by their inode numbers.
pub(super) struct Tree<'a> {
    root: &'a RootDir,
    pub(super) id: u64,
    /// Where directories are, as far as was met or asked: `None` for one that is gone.
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

    /// What the tree has of an inode.
    pub(super) fn inode(&self, number: u64) -> Result<Option<Inode>> {
        let key = Key { object: number, item_type: item::INODE_ITEM, offset: 0 };
        let range = Range { tree: self.id, first: key, last: key, since: 0 };
        let mut buffer = self.buffer.borrow_mut();
        let mut search = Search::new(self.fd(), range, &mut buffer).at_most(1);
        search.next_item()?.map(|found| Inode::parse(found.data)).transpose()
    }

    /// All names of an inode, of which there are `links` at most.
    pub(super) fn names(&self, inode: u64, links: u32) -> Result<Vec<Name>> {
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

    /// Takes note of where a directory is, so that it is not searched for.
    pub(super) fn note_directory(&self, inode: u64, name: &Name) {
        self.directories.borrow_mut().insert(inode, Some(name.clone()));
    }

    /// Where the subvolumes directly inside of this one are.
    pub(super) fn inner_subvolumes(&self) -> Result<Vec<Name>> {
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
            place = place.map(|above| suspects.lead(above, &name));
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

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

impl From<item::Name<'_>> for Name {
    fn from(name: item::Name<'_>) -> Self {
        Self { directory: name.directory, name: name.name.to_vec() }
    }
}
