//! One 512-byte tar header block. No I/O.
//!
//! The fields' places come from the `tar` crate; numbers are read here, because that crate has no negative ones.

use tar::Header as Block;

use super::number;
use super::sparse::{Pairs, Segment, SparseError};

/// Bytes of a tar block.
pub(crate) const BLOCK_BYTES: usize = 512;

/// What a header block says, before extension headers change it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) typeflag: u8,
    pub(crate) name: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: i64,
    pub(crate) gid: i64,
    pub(crate) size: u64,
    pub(crate) mtime: i64,
    /// GNU headers may have it.
    pub(crate) atime: Option<i64>,
    /// Major and minor number; 0 where the field is not a number.
    pub(crate) device: (u32, u32),
}

/// What is wrong with a header block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("not a tar header: the checksum does not match")]
    Checksum,
    #[error("not a tar header: the field {0} is not a number")]
    Number(&'static str),
    #[error(transparent)]
    Sparse(#[from] SparseError),
}

impl Header {
    pub(crate) fn parse(bytes: &[u8; BLOCK_BYTES]) -> Result<Self, HeaderError> {
        let block = Block::from_byte_slice(bytes);
        let old = block.as_old();
        check(bytes, old.cksum)?;
        let number = |name, bytes: &[u8]| number::field(bytes).ok_or(HeaderError::Number(name));
        let mut header = Self {
            typeflag: old.linkflag[0],
            name: text(&old.name).to_vec(),
            link: text(&old.linkname).to_vec(),
            // Some programs put the file type's bits in, too.
            mode: u32::try_from(number("mode", &old.mode)? & 0o7777)
                .map_err(|_| HeaderError::Number("mode"))?,
            uid: number("uid", &old.uid)?,
            gid: number("gid", &old.gid)?,
            size: u64::try_from(number("size", &old.size)?).map_err(|_| HeaderError::Number("size"))?,
            mtime: number("mtime", &old.mtime)?,
            atime: None,
            device: (0, 0),
        };
        header.read_magic_fields(block);
        Ok(header)
    }

    /// The fields that only headers with a magic number have.
    fn read_magic_fields(&mut self, block: &Block) {
        let device = |field| number::field(field).and_then(|number| u32::try_from(number).ok()).unwrap_or(0);
        if let Some(ustar) = block.as_ustar() {
            self.device = (device(&ustar.dev_major), device(&ustar.dev_minor));
            // The star program's headers end in this mark and keep times behind a shorter prefix.
            let star = block.as_bytes().ends_with(b"tar\0");
            self.add_prefix(text(if star { &ustar.prefix[..131] } else { &ustar.prefix }));
        } else if let Some(gnu) = block.as_gnu() {
            self.device = (device(&gnu.dev_major), device(&gnu.dev_minor));
            let time = |field: &[u8]| if field[0] == 0 { Some(None) } else { number::field(field).map(Some) };
            if let (Some(atime), Some(_)) = (time(&gnu.atime), time(&gnu.ctime)) {
                self.atime = atime;
                return;
            }
            // Go before 1.8 and others wrote a ustar prefix under GNU magic, where GNU has times.
            let prefix = text(&block.as_bytes()[345..500]);
            if prefix.is_ascii() {
                self.add_prefix(prefix);
            }
        }
    }

    fn add_prefix(&mut self, prefix: &[u8]) {
        if !prefix.is_empty() {
            self.name = [prefix, b"/", &self.name].concat();
        }
    }
}

/// The map in an old GNU sparse header (type `S`): the file's real size, and whether more of the map follows in extension blocks.
pub(crate) fn gnu_sparse(bytes: &[u8; BLOCK_BYTES], pairs: &mut Pairs) -> Result<(u64, bool), HeaderError> {
    let gnu = Block::from_byte_slice(bytes).as_gnu().ok_or(HeaderError::Number("realsize"))?;
    let size = number::field(&gnu.realsize).and_then(|size| u64::try_from(size).ok());
    let size = size.ok_or(HeaderError::Number("realsize"))?;
    let complete = push_segments(gnu.sparse.iter().map(|part| (&part.offset, &part.numbytes)), pairs)?;
    Ok((size, !complete && gnu.isextended[0] != 0))
}

/// An extension block of the same; whether another follows.
pub(crate) fn gnu_sparse_extension(
    bytes: &[u8; BLOCK_BYTES],
    pairs: &mut Pairs,
) -> Result<bool, HeaderError> {
    const ENTRY: usize = 24;
    let fields = (0..21).map(|index| {
        let (offset, length) = bytes[index * ENTRY..][..ENTRY].split_at(ENTRY / 2);
        (offset, length)
    });
    let complete = push_segments(fields, pairs)?;
    Ok(!complete && bytes[21 * ENTRY] != 0)
}

/// Whether the map ended: an entry that is not filled in ends it.
fn push_segments<'a, F>(
    fields: impl Iterator<Item = (&'a F, &'a F)>,
    pairs: &mut Pairs,
) -> Result<bool, HeaderError>
where
    F: AsRef<[u8]> + ?Sized + 'a,
{
    for (offset, length) in fields {
        let (offset, length) = (offset.as_ref(), length.as_ref());
        if offset[0] == 0 {
            return Ok(true);
        }
        let number = |field| number::field(field).and_then(|number| u64::try_from(number).ok());
        let (Some(offset), Some(bytes)) = (number(offset), number(length)) else {
            return Err(HeaderError::Number("sparse"));
        };
        pairs.push_segment(Segment { offset, bytes })?;
    }
    Ok(false)
}

/// A text field: up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The checksum is the sum of the block's bytes with the field itself as spaces; old programs summed signed bytes.
fn check(bytes: &[u8; BLOCK_BYTES], field: [u8; 8]) -> Result<(), HeaderError> {
    let stored = number::field(&field).ok_or(HeaderError::Checksum)?;
    let spaces = 8 * i64::from(b' ');
    let unsigned = |bytes: &[u8]| bytes.iter().map(|byte| i64::from(*byte)).sum::<i64>();
    if stored == unsigned(bytes) - unsigned(&field) + spaces {
        return Ok(());
    }
    let signed = |bytes: &[u8]| bytes.iter().map(|byte| i64::from(byte.cast_signed())).sum::<i64>();
    if stored == signed(bytes) - signed(&field) + spaces { Ok(()) } else { Err(HeaderError::Checksum) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(build: impl FnOnce(&mut Block), gnu: bool) -> [u8; BLOCK_BYTES] {
        let mut block = if gnu { Block::new_gnu() } else { Block::new_ustar() };
        block.set_path("name").unwrap();
        block.set_size(0);
        build(&mut block);
        block.set_cksum();
        *block.as_bytes()
    }

    fn sign(bytes: &mut [u8; BLOCK_BYTES]) {
        Block::from_byte_slice(bytes).clone().set_cksum();
        let mut copy = Block::new_old();
        copy.as_mut_bytes().copy_from_slice(bytes);
        copy.set_cksum();
        *bytes = *copy.as_bytes();
    }

    #[test]
    fn reads_each_field() {
        let bytes = block(
            |block| {
                block.set_mode(0o104_755);
                block.set_uid(1000);
                block.set_gid(1 << 30);
                block.set_size(1 << 40);
                block.set_mtime(1 << 33);
                block.set_link_name("target").unwrap();
                block.set_device_major(8).unwrap();
                block.set_device_minor(300).unwrap();
                block.set_entry_type(tar::EntryType::Block);
            },
            false,
        );
        let header = Header::parse(&bytes).unwrap();
        assert_eq!((header.name.as_slice(), header.link.as_slice()), (&b"name"[..], &b"target"[..]));
        assert_eq!((header.mode, header.uid, header.gid), (0o4755, 1000, 1 << 30));
        assert_eq!((header.size, header.mtime), (1 << 40, 1 << 33));
        assert_eq!((header.device, header.typeflag), ((8, 300), b'4'));
    }

    #[test]
    fn negative_times_and_owners_are_base_256() {
        let mut bytes = block(|_| {}, true);
        bytes[136..148].copy_from_slice(&[0xff; 12]);
        bytes[108..116].copy_from_slice(&(-2_i64).to_be_bytes());
        sign(&mut bytes);
        let header = Header::parse(&bytes).unwrap();
        assert_eq!((header.mtime, header.uid), (-1, -2));
    }

    #[test]
    fn prefix_counts_under_ustar_and_where_gnu_times_are_not_numbers() {
        for gnu in [false, true] {
            let mut bytes = block(|_| {}, gnu);
            bytes[345..352].copy_from_slice(b"pre/fix");
            sign(&mut bytes);
            assert_eq!(Header::parse(&bytes).unwrap().name, b"pre/fix/name", "gnu {gnu}");
        }
        let mut times = block(|_| {}, true);
        times[345..357].copy_from_slice(b"00000000017\0");
        sign(&mut times);
        let header = Header::parse(&times).unwrap();
        assert_eq!((header.name.as_slice(), header.atime), (&b"name"[..], Some(15)));
    }

    #[test]
    fn damage_is_told() {
        let good = block(|_| {}, false);
        let mut flipped = good;
        flipped[0] ^= 1;
        assert_eq!(Header::parse(&flipped), Err(HeaderError::Checksum));
        for (name, place) in [("mode", 100), ("uid", 108), ("gid", 116), ("size", 124), ("mtime", 136)] {
            let mut bytes = good;
            bytes[place] = b'x';
            sign(&mut bytes);
            assert_eq!(Header::parse(&bytes), Err(HeaderError::Number(name)));
        }
        let mut negative = good;
        negative[124..136].copy_from_slice(&[0xff; 12]);
        sign(&mut negative);
        assert_eq!(Header::parse(&negative), Err(HeaderError::Number("size")));
        assert_eq!(Header::parse(&[b'x'; BLOCK_BYTES]), Err(HeaderError::Checksum));
    }

    #[test]
    fn signed_checksums_of_old_programs_count() {
        let mut bytes = block(|_| {}, false);
        bytes[..4].copy_from_slice(&[0xe9; 4]);
        sign(&mut bytes);
        let unsigned = number::field(&bytes[148..156]).unwrap();
        bytes[148..156].copy_from_slice(format!("{:06o}\0 ", unsigned - 4 * 256).as_bytes());
        assert_eq!(Header::parse(&bytes).unwrap().name, [0xe9; 4]);
    }
}
