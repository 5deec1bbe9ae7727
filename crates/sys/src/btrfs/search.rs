//! Reading the file system's own trees.
//!
//! Everything that btrfs knows is an item in some tree, found by a key of three numbers; [`item`](super::item) says what is in the items.

use std::fmt;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::Result;
use nix::errno::Errno;

use crate::syscall;

/// That of the subvolume that the file is in, by which is searched.
pub const TREE_OF_FILE: u64 = 0;

/// The tree that a subvolume's files are in is numbered like the subvolume; this is the one that holds what is known of all trees.
#[doc(alias = "BTRFS_ROOT_TREE_OBJECTID")]
pub const ROOT_TREE: u64 = 1;

/// The tree in which subvolumes are found by their identity.
#[doc(alias = "BTRFS_UUID_TREE_OBJECTID")]
pub const UUID_TREE: u64 = 9;

/// The highest inode number that a subvolume can have.
#[doc(alias = "BTRFS_LAST_FREE_OBJECTID")]
pub const LAST_INODE: u64 = u64::MAX - 255;

/// Where an item is in its tree. Keys are in order of the object, then of the type, then of the offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[doc(alias = "btrfs_key")]
pub struct Key {
    /// The inode, subvolume or other object that the item is about.
    pub object: u64,
    /// What kind of item it is.
    pub item_type: u8,
    /// What tells items of one kind and object apart.
    pub offset: u64,
}

impl Key {
    /// The first key of all that are about `object`.
    pub fn first_of(object: u64) -> Self {
        Self { object, item_type: 0, offset: 0 }
    }

    /// The last key of all that are about `object`.
    pub fn last_of(object: u64) -> Self {
        Self { object, item_type: u8::MAX, offset: u64::MAX }
    }

    fn next(self) -> Option<Self> {
        if let Some(offset) = self.offset.checked_add(1) {
            return Some(Self { offset, ..self });
        }
        if let Some(item_type) = self.item_type.checked_add(1) {
            return Some(Self { item_type, offset: 0, ..self });
        }
        self.object.checked_add(1).map(Self::first_of)
    }
}

/// Which items to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The tree, by its number.
    pub tree: u64,
    /// The first key.
    pub first: Key,
    /// The last key, which is looked for too. All that lies between the two in the order of keys is found, of whatever type.
    pub last: Key,
    /// Only what lies in blocks that this transaction or a later one wrote; zero for everything. What else lies in such a block is found too.
    pub since: u64,
}

/// An item as it is in its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// Where it is.
    pub key: Key,
    /// The transaction that wrote the block that it lies in.
    pub written_at: u64,
    /// What it says.
    pub data: &'a [u8],
}

impl<'a> Item<'a> {
    /// The first item of what the kernel `found`, and how many bytes it takes there.
    ///
    /// # Errors
    ///
    /// `EBADMSG` when what is there is not an item.
    #[doc(alias = "btrfs_ioctl_search_header")]
    pub fn parse(found: &'a [u8]) -> Result<(Self, usize)> {
        const MALFORMED: Errno = Errno::EBADMSG;
        let (header, rest) = found.split_first_chunk::<HEADER_BYTES>().ok_or(MALFORMED)?;
        let wide = |at: usize| {
            let bytes = header[at..].first_chunk::<8>().copied().unwrap_or_default();
            u64::from_ne_bytes(bytes)
        };
        let narrow = |at: usize| {
            let bytes = header[at..].first_chunk::<4>().copied().unwrap_or_default();
            u32::from_ne_bytes(bytes)
        };
        let item_type = u8::try_from(narrow(24)).map_err(|_| MALFORMED)?;
        let bytes = usize::try_from(narrow(28)).map_err(|_| MALFORMED)?;
        let data = rest.get(..bytes).ok_or(MALFORMED)?;
        let key = Key { object: wide(8), item_type, offset: wide(16) };
        Ok((Self { key, written_at: wide(0), data }, HEADER_BYTES + bytes))
    }
}

/// Bytes of what the kernel writes before each item: `struct btrfs_ioctl_search_header`.
const HEADER_BYTES: usize = 32;

/// Room for what the kernel finds at once, to be lent to one [`Search`] after the other.
pub struct Buffer(Box<Request>);

impl Buffer {
    /// A new buffer.
    #[expect(clippy::large_stack_arrays, reason = "64 KiB, for a moment")]
    pub fn new() -> Self {
        Self(Box::new(Request { key: SearchKey::default(), bytes: ROOM as u64, found: [0; ROOM] }))
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("bytes", &ROOM).finish()
    }
}

/// The items of a range, in the order of their keys.
///
/// What is searched is the tree as it is now, without what is still on its way into it: changes of inodes and of directories may be held back until the transaction they
/// belong to is committed, see [`commit`]. What changes during the search is found or not.
#[derive(Debug)]
pub struct Search<'buffer, Fd> {
    file: Fd,
    buffer: &'buffer mut Buffer,
    range: Range,
    /// How many more items are wanted.
    wanted: u64,
    /// Where in the buffer the next item is, and how many are left in it.
    start: usize,
    left: u32,
    /// The kernel has nothing more.
    ended: bool,
}

impl<'buffer, Fd: AsFd> Search<'buffer, Fd> {
    /// Looks in the file system that `file` is on.
    pub fn new(file: Fd, range: Range, buffer: &'buffer mut Buffer) -> Self {
        Self { file, buffer, range, wanted: u64::MAX, start: 0, left: 0, ended: range.first > range.last }
    }

    /// Ends after so many items. The kernel looks no further then; otherwise it goes through the rest of the block in which it found the last item.
    #[must_use]
    pub fn at_most(self, items: u32) -> Self {
        Self { wanted: items.into(), ..self }
    }

    /// The next item; `None` when there is none any more.
    ///
    /// Needs `CAP_SYS_ADMIN` in the initial user namespace. Linux 3.16.
    ///
    /// # Errors
    ///
    /// `EPERM`; `ENOTTY` where it is not on btrfs; `ENOENT` when there is no such tree; `EIO`; `EBADMSG` when what the kernel gave is not a list of items.
    #[doc(alias = "BTRFS_IOC_TREE_SEARCH_V2")]
    pub fn next_item(&mut self) -> Result<Option<Item<'_>>> {
        if self.left == 0 && !self.fill()? {
            return Ok(None);
        }
        let (item, bytes) = Item::parse(self.buffer.0.found.get(self.start..).unwrap_or_default())?;
        self.start += bytes;
        self.left -= 1;
        self.wanted -= 1;
        if self.left == 0 {
            match item.key.next().filter(|next| *next <= self.range.last) {
                Some(next) => self.range.first = next,
                None => self.ended = true,
            }
        }
        Ok(Some(item))
    }

    /// False when nothing is left.
    fn fill(&mut self) -> Result<bool> {
        if self.ended || self.wanted == 0 {
            return Ok(false);
        }
        let request = &mut *self.buffer.0;
        let is_small = self.range.first.object == self.range.last.object || self.wanted <= FEW;
        let items = u32::try_from(self.wanted).unwrap_or(u32::MAX);
        let mut search = |room| search_in(self.file.as_fd(), request, &self.range, items, room);
        match search(if is_small { LITTLE } else { ROOM }) {
            Err(Errno::EOVERFLOW) if is_small => search(ROOM)?,
            result => result?,
        }
        (self.start, self.left) = (0, request.key.items);
        self.ended = self.left == 0;
        Ok(!self.ended)
    }
}

/// Writes everything that was changed on the file system that `file` is on to its trees, and the trees to the disk; costs next to nothing when there is nothing to be written.
///
/// # Errors
///
/// `ENOTTY` where it is not on btrfs; `EIO`, `ENOSPC`; `EROFS` when the file system has failed.
#[doc(alias = "BTRFS_IOC_SYNC")]
pub fn commit(file: impl AsFd) -> Result<()> {
    // SAFETY: the request takes no argument.
    unsafe { ioctl::sync(file.as_fd().as_raw_fd()) }.map(drop)
}

/// Begins to write what is in the trees of the file system that `file` is on, or is held back of names and metadata, to the disk, and gives the transaction by which that is done; the last one when there is nothing to be written. Contents of files stay where
/// they are.
///
/// # Errors
///
/// `ENOTTY` where it is not on btrfs; `EIO`, `ENOSPC`; `EROFS` when the file system has failed.
#[doc(alias = "BTRFS_IOC_START_SYNC")]
pub fn start_commit(file: impl AsFd) -> Result<u64> {
    let mut transaction = 0;
    // SAFETY: the request writes one number, which `transaction` has room for.
    unsafe { ioctl::start_sync(file.as_fd().as_raw_fd(), &raw mut transaction) }?;
    Ok(transaction)
}

/// Searches with the first `room` bytes of what there is, which are [`ROOM`] at most.
fn search_in(
    file: BorrowedFd<'_>,
    request: &mut Request,
    range: &Range,
    items: u32,
    room: usize,
) -> Result<()> {
    request.key = SearchKey::of(range, items);
    request.bytes = room.min(ROOM) as u64;
    syscall::retry_on_interrupt(|| {
        // SAFETY: the kernel reads and writes a `struct btrfs_ioctl_search_args_v2` and as many bytes after it as its `bytes` says, which are no more than a `Request` has.
        let returned = unsafe { libc::ioctl(file.as_raw_fd(), TREE_SEARCH_V2, &raw mut *request) };
        Errno::result(returned).map(drop)
    })
}

/// No item is larger than a block of a tree, and no block than 64 KiB, less its header. The kernel touches every page of it for each block that it finds, so that more costs more.
const ROOM: usize = 64 * 1024;

/// Enough for most single objects, and for [few](FEW) items.
const LITTLE: usize = 4 * 1024;

/// So many items mostly have room in [`LITTLE`]; where they have not, the kernel gives those that have.
const FEW: u64 = 16;

/// `struct btrfs_ioctl_search_key`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct SearchKey {
    tree: u64,
    first_object: u64,
    last_object: u64,
    first_offset: u64,
    last_offset: u64,
    first_transaction: u64,
    last_transaction: u64,
    first_type: u32,
    last_type: u32,
    items: u32,
    padding: u32,
    unused: [u64; 4],
}

impl SearchKey {
    fn of(range: &Range, items: u32) -> Self {
        Self {
            tree: range.tree,
            first_object: range.first.object,
            last_object: range.last.object,
            first_offset: range.first.offset,
            last_offset: range.last.offset,
            first_transaction: range.since,
            last_transaction: u64::MAX,
            first_type: range.first.item_type.into(),
            last_type: range.last.item_type.into(),
            items,
            ..Self::default()
        }
    }
}

/// `struct btrfs_ioctl_search_args_v2`, with the room that it is followed by.
#[repr(C)]
struct Request {
    key: SearchKey,
    bytes: u64,
    found: [u8; ROOM],
}

/// The part of it that the number of the request is made with.
#[repr(C)]
struct RequestHead {
    key: SearchKey,
    bytes: u64,
}

const _: () = assert!(size_of::<RequestHead>() == 112 && size_of::<Request>() == 112 + ROOM);

const TREE_SEARCH_V2: libc::Ioctl = libc::_IOWR::<RequestHead>(0x94, 17);

mod ioctl {
    nix::ioctl_none!(sync, 0x94, 8);
    nix::ioctl_read!(start_sync, 0x94, 24, u64);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(key: Key, written_at: u64, data: &[u8]) -> Vec<u8> {
        let length = u32::try_from(data.len()).unwrap();
        [
            &written_at.to_ne_bytes()[..],
            &key.object.to_ne_bytes(),
            &key.offset.to_ne_bytes(),
            &u32::from(key.item_type).to_ne_bytes(),
            &length.to_ne_bytes(),
            data,
        ]
        .concat()
    }

    #[test]
    fn records_that_do_not_add_up_are_refused() {
        let key = Key { object: 257, item_type: 12, offset: 256 };
        let good = record(key, 7, b"data");
        let (item, bytes) = Item::parse(&good).unwrap();
        assert_eq!((item, bytes), (Item { key, written_at: 7, data: b"data" }, 36));
        for length in 0..good.len() {
            assert_eq!(Item::parse(&good[..length]).unwrap_err(), Errno::EBADMSG, "cut to {length} bytes");
        }
        let mut bad = good.clone();
        bad[25] = 1;
        assert_eq!(Item::parse(&bad).unwrap_err(), Errno::EBADMSG, "type of more than a byte");
        let mut bad = good;
        bad[31] = 1;
        assert_eq!(Item::parse(&bad).unwrap_err(), Errno::EBADMSG, "longer than what there is");
    }

    #[test]
    fn keys_follow_each_other() {
        let last = u64::MAX;
        let key = |object, item_type, offset| Key { object, item_type, offset };
        for (before, after) in [
            (key(1, 2, 3), Some(key(1, 2, 4))),
            (key(1, 2, last), Some(key(1, 3, 0))),
            (key(1, 255, last), Some(key(2, 0, 0))),
            (key(last, 255, last), None),
        ] {
            assert_eq!(before.next(), after);
            assert!(after.is_none_or(|after| before < after));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok((item, taken)) = Item::parse(&bytes) {
                prop_assert_eq!(taken, HEADER_BYTES + item.data.len());
                prop_assert!(taken <= bytes.len());
            }
        }

        #[test]
        fn what_was_written_is_read(
            items in prop::collection::vec((any::<(u64, u8, u64, u64)>(), prop::collection::vec(any::<u8>(), 0..20)), 0..10)
        ) {
            let mut bytes = Vec::new();
            for ((object, item_type, offset, written_at), data) in &items {
                bytes.extend(record(Key { object: *object, item_type: *item_type, offset: *offset }, *written_at, data));
            }
            let mut rest = &bytes[..];
            for ((object, item_type, offset, written_at), data) in &items {
                let (item, taken) = Item::parse(rest).unwrap();
                let key = Key { object: *object, item_type: *item_type, offset: *offset };
                prop_assert_eq!(item, Item { key, written_at: *written_at, data });
                rest = &rest[taken..];
            }
            prop_assert!(rest.is_empty());
        }
    }
}
