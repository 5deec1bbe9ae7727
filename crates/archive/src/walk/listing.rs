//! The names in one directory.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use graphdriver_sys::FileType;
use graphdriver_sys::dents::{Buffer, Dents};

/// The names in one directory, sorted by their bytes, in two allocations however many they are.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// The names one after the other, each with its NUL.
    bytes: Vec<u8>,
    slots: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    start: usize,
    length: u16,
    file_type: FileType,
    ino: u64,
}

impl Listing {
    /// Reads the rest of `dir`, which is open for reading and whose offset no one else moves.
    pub(crate) fn read(dir: BorrowedFd<'_>, buffer: &mut Buffer) -> nix::Result<Self> {
        let mut listing = Self::default();
        let mut dents = Dents::new(dir, buffer);
        while let Some(entry) = dents.next_entry()? {
            listing.push(entry.name, entry.file_type, entry.ino);
        }
        let Self { bytes, slots } = &mut listing;
        slots.sort_unstable_by(|a, b| a.name(bytes).cmp(b.name(bytes)));
        Ok(listing)
    }

    /// These names, which are sorted, whatever a directory says of them.
    pub(crate) fn of<'a>(names: impl Iterator<Item = &'a CStr>) -> Self {
        let mut listing = Self::default();
        names.for_each(|name| listing.push(name, FileType::Unknown, 0));
        listing
    }

    fn push(&mut self, name: &CStr, file_type: FileType, ino: u64) {
        // NAME_MAX is 255 everywhere; d_reclen is 16 bits wide.
        let length = u16::try_from(name.count_bytes()).unwrap_or(u16::MAX);
        self.slots.push(Slot { start: self.bytes.len(), length, file_type, ino });
        self.bytes.extend_from_slice(name.to_bytes_with_nul());
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The name at `index`, if there are that many.
    pub(crate) fn name(&self, index: usize) -> Option<&CStr> {
        let slot = self.slots.get(index)?;
        CStr::from_bytes_until_nul(&self.bytes[slot.start..]).ok()
    }

    /// Where `name` is, if it is there.
    pub(crate) fn find(&self, name: &[u8]) -> Option<usize> {
        self.slots.binary_search_by(|slot| slot.name(&self.bytes).cmp(name)).ok()
    }

    /// The kind of file at `index`; `Unknown` where the file system does not keep it in directories.
    pub(crate) fn file_type(&self, index: usize) -> FileType {
        self.slots.get(index).map_or(FileType::Unknown, |slot| slot.file_type)
    }

    /// The inode number of the file at `index` as the directory has it.
    pub(crate) fn ino(&self, index: usize) -> Option<u64> {
        self.slots.get(index).map(|slot| slot.ino)
    }
}

impl Slot {
    fn name<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.start..self.start + usize::from(self.length)]
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn sorts_by_bytes() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b", "a", "B", "a-b", "ä", "a.b"] {
            File::create(dir.path().join(name)).unwrap();
        }
        let fd = File::open(dir.path()).unwrap();
        let listing = Listing::read(fd.as_fd(), &mut Buffer::new()).unwrap();
        let names: Vec<_> =
            (0..listing.len()).map(|index| listing.name(index).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["B", "a", "a-b", "a.b", "b", "ä"]);
        assert_eq!(listing.name(6), None);
        assert_eq!(["B", "a.b", "c"].map(|name| listing.find(name.as_bytes())), [Some(0), Some(3), None]);
    }
}
