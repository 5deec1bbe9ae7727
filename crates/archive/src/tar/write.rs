//! Writing headers: ustar, and PAX records for what a ustar header has no room for. No I/O.

use tar::{EntryType, Header};

use super::number::Timestamp;
use super::pax::{push_record, xattr_key};
use crate::xattrs::Xattr;

/// Everything in a tar is padded to a multiple of this.
pub(crate) const BLOCK_BYTES: usize = 512;

/// What seven octal digits hold: ids and device numbers.
const MAX_ID: u32 = 0o7_777_777;

/// What eleven octal digits hold: sizes and times.
const MAX_SIZE: u64 = 0o77_777_777_777;

/// What is said about one member of the archive.
#[derive(Clone, Debug)]
pub(crate) struct Entry<'a> {
    /// Relative; ends in `/` for a directory.
    pub(crate) name: &'a [u8],
    pub(crate) kind: EntryType,
    /// Target of a hard or symbolic link.
    pub(crate) link_name: &'a [u8],
    /// Permission bits, set-id and sticky ones included.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Bytes of content that follow.
    pub(crate) size: u64,
    pub(crate) modified: Timestamp,
    /// Major and minor number of a device.
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: &'a [Xattr],
}

impl Entry<'_> {
    /// An empty regular file without owner, mode and time.
    pub(crate) fn empty_file(name: &[u8]) -> Entry<'_> {
        Entry {
            name,
            kind: EntryType::Regular,
            link_name: b"",
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            modified: Timestamp::default(),
            device: (0, 0),
            xattrs: &[],
        }
    }
}

/// Appends the header of `entry`, after an extended header if one is needed.
///
/// Names and link targets are written as the bytes they are, in whichever field takes them. Times have an extended header only when they are
/// before 1970, after 2242, or not whole seconds; user and group names are never written.
pub(crate) fn push_header(out: &mut Vec<u8>, entry: &Entry<'_>) {
    let mut header = Header::new_ustar();
    let mut records = Vec::new();
    set_names(&mut header, entry, &mut records);
    set_numbers(&mut header, entry, &mut records);
    header.set_entry_type(entry.kind);
    header.set_cksum();
    for xattr in entry.xattrs {
        push_record(&mut records, &xattr_key(xattr.name.to_bytes()), &xattr.value);
    }
    if !records.is_empty() {
        push_extended_header(out, entry.name, &records);
    }
    out.extend_from_slice(header.as_bytes());
}

/// Appends zeros up to the next block.
pub(crate) fn push_padding(out: &mut Vec<u8>, content_bytes: u64) {
    let block = BLOCK_BYTES as u64;
    let missing = content_bytes.next_multiple_of(block) - content_bytes;
    // Less than a block, so the conversion cannot fail.
    out.resize(out.len() + usize::try_from(missing).unwrap_or(0), 0);
}

/// Appends the two empty blocks that end an archive.
pub(crate) fn push_end(out: &mut Vec<u8>) {
    out.resize(out.len() + 2 * BLOCK_BYTES, 0);
}

fn push_extended_header(out: &mut Vec<u8>, name: &[u8], records: &[u8]) {
    let base =
        name.strip_suffix(b"/").unwrap_or(name).rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let mut own_name = [b"PaxHeaders.0/", base].concat();
    own_name.truncate(100);
    let mut header = Header::new_ustar();
    copy_into(&mut fields(&mut header).name, &own_name);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(records.len() as u64);
    header.set_entry_type(EntryType::XHeader);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(records);
    push_padding(out, records.len() as u64);
}

fn set_names(header: &mut Header, entry: &Entry<'_>, records: &mut Vec<u8>) {
    let ustar = fields(header);
    if let Some((prefix, name)) = split_name(entry.name) {
        copy_into(&mut ustar.prefix, prefix);
        copy_into(&mut ustar.name, name);
    } else {
        copy_into(&mut ustar.name, entry.name);
        push_record(records, b"path", entry.name);
    }
    copy_into(&mut ustar.linkname, entry.link_name);
    if entry.link_name.len() > ustar.linkname.len() {
        push_record(records, b"linkpath", entry.link_name);
    }
}

fn set_numbers(header: &mut Header, entry: &Entry<'_>, records: &mut Vec<u8>) {
    header.set_mode(entry.mode);
    let size = or_record(entry.size, entry.size <= MAX_SIZE, b"size", records);
    header.set_size(size);
    let uid = or_record(entry.uid, entry.uid <= MAX_ID, b"uid", records);
    header.set_uid(uid.into());
    let gid = or_record(entry.gid, entry.gid <= MAX_ID, b"gid", records);
    header.set_gid(gid.into());
    let seconds = u64::try_from(entry.modified.seconds).ok().filter(|seconds| *seconds <= MAX_SIZE);
    header.set_mtime(seconds.unwrap_or(0));
    if seconds.is_none() || entry.modified.nanoseconds != 0 {
        push_record(records, b"mtime", decimal(entry.modified).as_bytes());
    }
    // Linux has 12 bits of major and 20 bits of minor number, which seven octal digits hold.
    let ustar = fields(header);
    copy_into(&mut ustar.dev_major, format!("{:07o}", entry.device.0 & MAX_ID).as_bytes());
    copy_into(&mut ustar.dev_minor, format!("{:07o}", entry.device.1 & MAX_ID).as_bytes());
}

/// `number`, or 0 and a record when it does not fit.
fn or_record<T: Default + ToString>(number: T, fits: bool, key: &[u8], records: &mut Vec<u8>) -> T {
    if fits {
        return number;
    }
    push_record(records, key, number.to_string().as_bytes());
    T::default()
}

/// A name as prefix and name fields, which a reader joins with a slash; `None` when no slash is in the right place.
fn split_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    const NAME_BYTES: usize = 100;
    const PREFIX_BYTES: usize = 155;
    if name.len() <= NAME_BYTES {
        return Some((b"", name));
    }
    let first = name.len() - NAME_BYTES - 1;
    let slash = first + name[first..].iter().position(|byte| *byte == b'/')?;
    let (prefix, name) = (&name[..slash], &name[slash + 1..]);
    (!prefix.is_empty() && prefix.len() <= PREFIX_BYTES && !name.is_empty()).then_some((prefix, name))
}

/// Seconds as a decimal fraction, without needless zeros.
fn decimal(time: Timestamp) -> String {
    if time.nanoseconds == 0 {
        return time.seconds.to_string();
    }
    // Nanoseconds count forward, digits after a minus sign backward.
    let (sign, seconds, nanoseconds) = if time.seconds < 0 {
        ("-", (time.seconds + 1).unsigned_abs(), 1_000_000_000 - time.nanoseconds)
    } else {
        ("", time.seconds.unsigned_abs(), time.nanoseconds)
    };
    format!("{sign}{seconds}.{nanoseconds:09}").trim_end_matches('0').to_owned()
}

/// As much of `bytes` as fits; a field without NUL at its end is full.
fn copy_into(field: &mut [u8], bytes: &[u8]) {
    let length = bytes.len().min(field.len());
    field[..length].copy_from_slice(&bytes[..length]);
}

fn fields(header: &mut Header) -> &mut tar::UstarHeader {
    match header.as_ustar_mut() {
        Some(fields) => fields,
        None => unreachable!("made by Header::new_ustar"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(seconds: i64, nanoseconds: u32) -> Timestamp {
        Timestamp { seconds, nanoseconds }
    }

    #[test]
    fn times_are_exact_on_both_sides_of_1970() {
        for (time, expected) in [
            (time(0, 0), "0"),
            (time(-1, 0), "-1"),
            (time(1, 500_000_000), "1.5"),
            (time(1_600_000_000, 1), "1600000000.000000001"),
            (time(-1, 500_000_000), "-0.5"),
            (time(-2, 999_999_999), "-1.000000001"),
            (time(i64::MIN, 1), "-9223372036854775807.999999999"),
        ] {
            assert_eq!(decimal(time), expected);
        }
    }

    #[test]
    fn names_are_split_where_both_parts_fit() {
        let name = |prefix: usize, name: usize| [&vec![b'p'; prefix][..], b"/", &vec![b'n'; name]].concat();
        for (whole, expected) in [
            (vec![b'n'; 100], Some((0, 100))),
            (vec![b'n'; 101], None),
            (name(155, 100), Some((155, 100))),
            (name(156, 100), None),
            (name(155, 101), None),
            (name(1, 99), Some((1, 99))),
            (name(0, 100), None),
            ([&vec![b'd'; 100][..], b"/"].concat(), None),
            ([&name(60, 60)[..], b"/"].concat(), Some((60, 61))),
        ] {
            let lengths = split_name(&whole).map(|(prefix, name)| (prefix.len(), name.len()));
            assert_eq!(lengths, expected);
        }
    }

    #[test]
    fn extended_header_only_when_something_does_not_fit() {
        let bytes = |entry: &Entry<'_>| {
            let mut out = Vec::new();
            push_header(&mut out, entry);
            assert_eq!(out.len() % BLOCK_BYTES, 0);
            out.len() / BLOCK_BYTES
        };
        let plain = Entry { modified: time(1, 0), uid: MAX_ID, size: MAX_SIZE, ..Entry::empty_file(b"a") };
        assert_eq!(bytes(&plain), 1);
        assert_eq!(bytes(&Entry { modified: time(1, 1), ..plain.clone() }), 3);
        assert_eq!(bytes(&Entry { modified: time(-1, 0), ..plain.clone() }), 3);
        assert_eq!(bytes(&Entry { uid: MAX_ID + 1, ..plain.clone() }), 3);
        assert_eq!(bytes(&Entry { size: MAX_SIZE + 1, ..plain.clone() }), 3);
        assert_eq!(bytes(&Entry { link_name: &[b'l'; 100], ..plain.clone() }), 1);
        assert_eq!(bytes(&Entry { link_name: &[b'l'; 101], ..plain.clone() }), 3);
        assert_eq!(bytes(&Entry { name: &[b'n'; 600], ..plain }), 4);
    }
}
