//! What this crate notes in a record beyond what tar-split knows: in the extra field of the gzip header (RFC 1952), which other readers pass over.

use sha2::{Digest, Sha256};

use crate::apply::ArchiveDigest;
use crate::id_map::{IdMap, IdMaps};

/// Where the extra field's contents begin in a gzip file without name or comment before them.
pub(super) const OFFSET: u64 = 12;
/// Bytes of the extra field: subfield id, length, version, size, three digests.
pub(super) const BYTES: usize = 4 + 1 + 8 + 3 * 32;
/// Where the origin is in such a file, and its size.
pub(super) const ORIGIN_OFFSET: u64 = OFFSET + 4 + 1 + 8 + 2 * 32;
pub(super) const ORIGIN_BYTES: usize = 32;

const ID: [u8; 2] = *b"GD";
const VERSION: u8 = 1;

/// Which archive the record is of, and the id maps that it was unpacked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) archive: ArchiveDigest,
    /// A digest of the maps.
    pub(super) maps: [u8; 32],
    /// Which two inodes the record and the layer's directory are; zeros until it has its place.
    pub(super) origin: [u8; ORIGIN_BYTES],
}

impl Note {
    /// The extra field.
    pub(super) fn to_extra(self) -> [u8; BYTES] {
        let mut extra = [0; BYTES];
        let mut rest = extra.as_mut_slice();
        let length = u16::try_from(BYTES - 4).unwrap_or(u16::MAX).to_le_bytes();
        let bytes = self.archive.bytes.to_le_bytes();
        for part in [&ID[..], &length, &[VERSION], &bytes, &self.archive.sha256, &self.maps, &self.origin] {
            let (place, after) = rest.split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = after;
        }
        extra
    }

    /// The note in an extra field; `None` where there is none of this version.
    pub(super) fn from_extra(mut extra: &[u8]) -> Option<Self> {
        loop {
            let (id, rest) = extra.split_first_chunk::<2>()?;
            let (length, rest) = rest.split_first_chunk::<2>()?;
            let (field, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
            if *id == ID {
                return Self::from_field(field);
            }
            extra = rest;
        }
    }

    fn from_field(field: &[u8]) -> Option<Self> {
        let (version, rest) = field.split_first()?;
        let (bytes, rest) = rest.split_first_chunk()?;
        let (sha256, rest) = rest.split_first_chunk()?;
        let (maps, rest) = rest.split_first_chunk()?;
        let origin = rest.first_chunk()?;
        let archive = ArchiveDigest { sha256: *sha256, bytes: u64::from_le_bytes(*bytes) };
        (*version == VERSION).then_some(Self { archive, maps: *maps, origin: *origin })
    }
}

/// A digest of `maps`: equal for equal ones.
pub(crate) fn maps_digest(maps: &IdMaps) -> [u8; 32] {
    let mut hash = Sha256::new();
    for ranges in [maps.uids(), maps.gids()] {
        hash.update((ranges.len() as u64).to_le_bytes());
        for IdMap { container_id, host_id, size } in ranges {
            for number in [container_id, host_id, size] {
                hash.update(number.to_le_bytes());
            }
        }
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note() -> Note {
        Note {
            archive: ArchiveDigest { sha256: [1; 32], bytes: 0x0102_0304 },
            maps: [2; 32],
            origin: [3; 32],
        }
    }

    #[test]
    fn is_found_among_other_fields() {
        let other = [b'X', b'Y', 2, 0, 9, 9];
        let origin = usize::try_from(ORIGIN_OFFSET - OFFSET).unwrap();
        assert_eq!(note().to_extra()[origin..], note().origin);
        assert_eq!(Note::from_extra(&note().to_extra()), Some(note()));
        assert_eq!(Note::from_extra(&[&other[..], &note().to_extra()].concat()), Some(note()));
        for extra in [&[][..], &other, b"GD", &[b'G', b'D', 1, 0, 1], &note().to_extra()[..40]] {
            assert_eq!(Note::from_extra(extra), None, "{extra:?}");
        }
        let mut later = note().to_extra();
        later[4] = VERSION + 1;
        assert_eq!(Note::from_extra(&later), None);
    }

    #[test]
    fn maps_are_told_apart() {
        let range = |host_id| vec![IdMap { container_id: 0, host_id, size: 10 }];
        let maps = |uids, gids| maps_digest(&IdMaps::new(uids, gids).unwrap());
        let all = [
            maps_digest(&IdMaps::default()),
            maps(range(1000), range(1000)),
            maps(range(1000), range(2000)),
            maps(range(1000), Vec::new()),
            maps(Vec::new(), range(1000)),
        ];
        for (index, digest) in all.iter().enumerate() {
            assert!(!all[index + 1..].contains(digest), "{index}");
        }
    }
}
