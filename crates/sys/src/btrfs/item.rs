//! What is in the items of the trees, as far as it is needed to find what changed. Numbers on disk are little-endian.
//!
//! See [the on-disk format](https://btrfs.readthedocs.io/en/latest/dev/On-disk-format.html) and the kernel's `linux/btrfs_tree.h`.

use nix::Result;
use nix::errno::Errno;

use super::search::{Item, Key};
use crate::FileType;

const MALFORMED: Errno = Errno::EBADMSG;

/// Type of the item that holds the metadata of an inode.
#[doc(alias = "BTRFS_INODE_ITEM_KEY")]
pub const INODE_ITEM: u8 = 1;
/// Type of the items that say which names an inode has in the directory that is their offset.
#[doc(alias = "BTRFS_INODE_REF_KEY")]
pub const INODE_REF: u8 = 12;
/// Type of the items that hold the names of an inode for which there was no room in one of type [`INODE_REF`].
#[doc(alias = "BTRFS_INODE_EXTREF_KEY")]
pub const INODE_EXTREF: u8 = 13;
/// Type of the items that hold the names in a directory, by their digests.
#[doc(alias = "BTRFS_DIR_ITEM_KEY")]
pub const DIR_ITEM: u8 = 84;
/// Type of the items that hold the contents of a file, or say where they are.
#[doc(alias = "BTRFS_EXTENT_DATA_KEY")]
pub const EXTENT_DATA: u8 = 108;
/// Type of the item that holds what is known of a subvolume.
#[doc(alias = "BTRFS_ROOT_ITEM_KEY")]
pub const ROOT_ITEM: u8 = 132;
/// Type of the items that name the subvolumes inside of a subvolume: their offset is the number of the inner one.
#[doc(alias = "BTRFS_ROOT_REF_KEY")]
pub const ROOT_REF: u8 = 156;
/// Type of the item that holds the numbers of the subvolumes of one identity.
#[doc(alias = "BTRFS_UUID_KEY_SUBVOL")]
pub const UUID_SUBVOLUME: u8 = 251;

/// What is asked of an inode here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    /// The transaction that made it.
    pub created_at: u64,
    /// The transaction that changed it last: its metadata (times of access included), its contents, its names, or what a directory holds.
    pub changed_at: u64,
    /// In bytes. That of a directory is [`NAME_WEIGHT`] times the bytes of all names in it, without `.` and `..`.
    pub size: u64,
    /// How many names it has; none when it was removed and is still open.
    pub links: u32,
    /// The kind of file.
    pub file_type: FileType,
    all: [u8; INODE_BYTES],
}

/// How often a name counts for the [size](Inode::size) of its directory: it is in two items, by its digest and by its place in the list.
pub const NAME_WEIGHT: u64 = 2;

/// Bytes of `struct btrfs_inode_item`.
const INODE_BYTES: usize = 160;

impl Inode {
    /// Reads an item of type [`INODE_ITEM`].
    ///
    /// # Errors
    ///
    /// `EBADMSG` when it is too short.
    #[doc(alias = "btrfs_inode_item")]
    pub fn parse(data: &[u8]) -> Result<Self> {
        let all: [u8; INODE_BYTES] = chunk(data, 0)?;
        let narrow = |at| chunk(&all, at).map(u32::from_le_bytes);
        Ok(Self {
            created_at: wide(&all, 0)?,
            changed_at: wide(&all, 8)?,
            size: wide(&all, 16)?,
            links: narrow(40)?,
            file_type: FileType::from_mode(narrow(52)?),
            all,
        })
    }

    /// Whether nothing that counts as a change of the inode came between `before`, an earlier state of it, and this one: it was read at most.
    ///
    /// Everything but [`changed_at`](Self::changed_at) and the time of access is the same then, also the number of changes that there were of it (`sequence`). For a directory it says that names are the same, too; the contents of a file
    /// can be changed through memory without being counted.
    pub fn is_unchanged_since(&self, before: &Self) -> bool {
        [0..8, 16..112, 124..INODE_BYTES].into_iter().all(|part| self.all[part.clone()] == before.all[part])
    }
}

/// A name of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a> {
    /// The inode number of the directory that it is in.
    pub directory: u64,
    /// One path component.
    pub name: &'a [u8],
}

/// The names in an item of type [`INODE_REF`] or [`INODE_EXTREF`]; none for an item of another type.
#[doc(alias = "btrfs_inode_ref")]
#[doc(alias = "btrfs_inode_extref")]
pub fn names(item: Item<'_>) -> impl Iterator<Item = Result<Name<'_>>> {
    let mut rest = match item.key.item_type {
        INODE_REF | INODE_EXTREF => item.data,
        _ => &[],
    };
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let parsed = first_name(item.key, rest);
        rest = match &parsed {
            Ok((_, after)) => after,
            Err(_) => &[],
        };
        Some(parsed.map(|(name, _)| name))
    })
}

fn first_name(key: Key, data: &[u8]) -> Result<(Name<'_>, &[u8])> {
    let (directory, header) = match key.item_type {
        INODE_EXTREF => (wide(data, 0)?, 18),
        _ => (key.offset, 10),
    };
    let length = usize::from(u16::from_le_bytes(chunk(data, header - 2)?));
    let after = data.get(header..).ok_or(MALFORMED)?;
    let (name, after) = after.split_at_checked(length).ok_or(MALFORMED)?;
    component(name)?;
    Ok((Name { directory, name }, after))
}

/// Refuses what cannot be the name of a file.
fn component(name: &[u8]) -> Result<()> {
    let cannot_be = matches!(name, b"" | b"." | b"..") || name.contains(&0) || name.contains(&b'/');
    if cannot_be { Err(MALFORMED) } else { Ok(()) }
}

/// The name of an inner subvolume, from an item of type [`ROOT_REF`].
///
/// # Errors
///
/// `EBADMSG` when that is not what it is.
#[doc(alias = "btrfs_root_ref")]
pub fn subvolume_name(data: &[u8]) -> Result<Name<'_>> {
    let directory = wide(data, 0)?;
    let length = usize::from(u16::from_le_bytes(chunk(data, 16)?));
    let name = data.get(18..18 + length).ok_or(MALFORMED)?;
    component(name)?;
    Ok(Name { directory, name })
}

/// Where a subvolume comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its identity.
    pub uuid: [u8; 16],
    /// The identity of the subvolume that it is a snapshot of.
    pub parent: Option<[u8; 16]>,
    /// The transaction that made it; what came before is in its parent too.
    pub created_at: u64,
}

impl Origin {
    /// Reads an item of type [`ROOT_ITEM`].
    ///
    /// # Errors
    ///
    /// `EBADMSG` when it is too short, as those of kernels before 3.6 are.
    #[doc(alias = "btrfs_root_item")]
    pub fn parse(data: &[u8]) -> Result<Self> {
        let parent: [u8; 16] = chunk(data, 263)?;
        Ok(Self {
            uuid: chunk(data, 247)?,
            parent: (parent != [0; 16]).then_some(parent),
            created_at: wide(data, 303)?,
        })
    }
}

/// Where in the [tree of identities](super::search::UUID_TREE) the subvolumes of an identity are.
pub fn uuid_key(uuid: [u8; 16]) -> Key {
    let half = |at| chunk(&uuid, at).map(u64::from_le_bytes).unwrap_or_default();
    Key { object: half(0), item_type: UUID_SUBVOLUME, offset: half(8) }
}

/// The numbers of subvolumes in an item of type [`UUID_SUBVOLUME`].
pub fn subvolume_ids(data: &[u8]) -> impl Iterator<Item = u64> {
    data.chunks_exact(8).filter_map(|bytes| wide(bytes, 0).ok())
}

fn wide(data: &[u8], at: usize) -> Result<u64> {
    chunk(data, at).map(u64::from_le_bytes)
}

fn chunk<const BYTES: usize>(data: &[u8], at: usize) -> Result<[u8; BYTES]> {
    data.get(at..).and_then(|data| data.first_chunk()).copied().ok_or(MALFORMED)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reference(name: &[u8]) -> Vec<u8> {
        let length = u16::try_from(name.len()).unwrap();
        [&[9; 8][..], &length.to_le_bytes(), name].concat()
    }

    fn far_reference(directory: u64, name: &[u8]) -> Vec<u8> {
        [&directory.to_le_bytes()[..], &reference(name)].concat()
    }

    fn item(item_type: u8, data: &[u8]) -> Item<'_> {
        Item { key: Key { object: 300, item_type, offset: 256 }, written_at: 5, data }
    }

    fn all(item_type: u8, data: &[u8]) -> Vec<(u64, Vec<u8>)> {
        names(item(item_type, data))
            .map(|name| name.map(|name| (name.directory, name.name.to_vec())).unwrap())
            .collect()
    }

    #[test]
    fn several_names_in_one_item() {
        let near = [reference(b"one"), reference(b"two")].concat();
        assert_eq!(all(INODE_REF, &near), [(256, b"one".to_vec()), (256, b"two".to_vec())]);
        let far = [far_reference(257, b"one"), far_reference(258, b"two")].concat();
        assert_eq!(all(INODE_EXTREF, &far), [(257, b"one".to_vec()), (258, b"two".to_vec())]);
        assert_eq!(all(INODE_ITEM, &near), []);
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        for bad in [&b""[..], b"..", b"a/b", b"a\0b"] {
            let data = [reference(b"good"), reference(bad)].concat();
            let mut names = names(item(INODE_REF, &data));
            assert!(names.next().unwrap().is_ok());
            assert_eq!(names.next().unwrap().unwrap_err(), Errno::EBADMSG, "{bad:?}");
            assert!(names.next().is_none());
        }
    }

    #[test]
    fn inodes_and_origins() {
        let mut data = [0; 160];
        data[0] = 41;
        data[8] = 42;
        data[16] = 43;
        data[40] = 3;
        data[53] = 0x40;
        let expected = Inode {
            created_at: 41,
            changed_at: 42,
            size: 43,
            links: 3,
            file_type: FileType::Directory,
            all: data,
        };
        assert_eq!(Inode::parse(&data).unwrap(), expected);
        assert_eq!(Inode::parse(&data[..159]).unwrap_err(), Errno::EBADMSG);
        let mut data = [0; 439];
        data[247..263].fill(1);
        data[303] = 9;
        assert_eq!(Origin::parse(&data).unwrap(), Origin { uuid: [1; 16], parent: None, created_at: 9 });
        data[263..279].fill(2);
        assert_eq!(Origin::parse(&data).unwrap().parent, Some([2; 16]));
        // Before Linux 3.6 the item ended here.
        assert_eq!(Origin::parse(&data[..239]).unwrap_err(), Errno::EBADMSG);
    }

    #[test]
    fn reading_is_no_change() {
        let before = Inode::parse(&[0; 160]).unwrap();
        for at in 0..160 {
            let mut data = [0; 160];
            data[at] = 1;
            let is_of_reading = (8..16).contains(&at) || (112..124).contains(&at);
            assert_eq!(Inode::parse(&data).unwrap().is_unchanged_since(&before), is_of_reading, "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            item_type in prop_oneof![Just(INODE_REF), Just(INODE_EXTREF), any::<u8>()],
            data in prop::collection::vec(any::<u8>(), 0..400)
        ) {
            let found = names(item(item_type, &data)).filter_map(Result::ok);
            prop_assert!(found.map(|name| name.name.len()).sum::<usize>() <= data.len());
            let _ = (Inode::parse(&data), Origin::parse(&data), subvolume_name(&data));
            prop_assert_eq!(subvolume_ids(&data).count(), data.len() / 8);
        }

        #[test]
        fn names_that_were_written_are_read(
            names in prop::collection::vec((any::<u64>(), prop::collection::vec(b'0'..u8::MAX, 1..255)), 0..6)
        ) {
            let data: Vec<u8> = names.iter().flat_map(|(directory, name)| far_reference(*directory, name)).collect();
            prop_assert_eq!(all(INODE_EXTREF, &data), names);
        }
    }
}
