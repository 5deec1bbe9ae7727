//! What extension headers (PAX `x`, GNU `L` and `K`) say about the entry that follows them. No I/O.

use std::ffi::CString;

use super::number::{self, Timestamp};
use super::pax::{RecordError, Records, xattr_name};
use super::sparse::{self, Pairs, Segment, SparseError};
use crate::xattrs::Xattr;

/// Longest name and link target, the kernel's `PATH_MAX` without its NUL.
pub(crate) const MAX_PATH_BYTES: usize = 4095;
/// Longest name of an extended attribute (`XATTR_NAME_MAX`).
const MAX_XATTR_NAME_BYTES: usize = 255;
/// Longest value of an extended attribute (`XATTR_SIZE_MAX`).
const MAX_XATTR_VALUE_BYTES: usize = 64 << 10;

/// The fields that PAX records replace or add.
#[derive(Debug, Default)]
pub(crate) struct Extended {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) linkpath: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<i64>,
    pub(crate) gid: Option<i64>,
    pub(crate) mtime: Option<Timestamp>,
    pub(crate) atime: Option<Timestamp>,
    /// In the archive's order; of two with the same name the later counts.
    pub(crate) xattrs: Vec<Xattr>,
    sparse: SparseRecords,
}

#[derive(Debug, Default)]
struct SparseRecords {
    major: Option<u64>,
    minor: Option<u64>,
    name: Option<Vec<u8>>,
    size: Option<u64>,
    real_size: Option<u64>,
    list: Option<Vec<Segment>>,
    pairs: Pairs,
}

/// A sparse file as PAX records describe it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PaxSparse {
    pub(crate) name: Option<Vec<u8>>,
    pub(crate) real_size: Option<u64>,
    /// The map, or `None` when it stands in front of the data (format 1.0).
    pub(crate) map: Option<Vec<Segment>>,
}

/// What is wrong with an extension header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExtendedError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Sparse(#[from] SparseError),
    #[error("the PAX record {0} has a bad value")]
    Value(String),
    #[error("a name of {0} bytes is longer than any path")]
    LongName(usize),
    #[error("the extended attribute {0} has a bad name or is too long")]
    Xattr(String),
    #[error("unknown format {0}.{1} of a sparse file")]
    SparseVersion(u64, u64),
}

impl Extended {
    /// Reads the data of an `x` header.
    pub(crate) fn parse(data: &[u8]) -> Result<Self, ExtendedError> {
        let mut extended = Self::default();
        for record in Records::new(data) {
            let (key, value) = record?;
            extended.set(key, value)?;
        }
        Ok(extended)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), ExtendedError> {
        if let Some(name) = xattr_name(key) {
            return self.push_xattr(&name, value);
        }
        match key {
            b"path" => self.path = text(key, value)?,
            b"linkpath" => self.linkpath = text(key, value)?,
            b"size" => self.size = parsed(key, value, number::decimal)?,
            b"uid" => self.uid = parsed(key, value, number::signed_decimal)?,
            b"gid" => self.gid = parsed(key, value, number::signed_decimal)?,
            b"mtime" => self.mtime = parsed(key, value, number::timestamp)?,
            b"atime" => self.atime = parsed(key, value, number::timestamp)?,
            b"GNU.sparse.major" => self.sparse.major = parsed(key, value, number::decimal)?,
            b"GNU.sparse.minor" => self.sparse.minor = parsed(key, value, number::decimal)?,
            b"GNU.sparse.name" => self.sparse.name = text(key, value)?,
            b"GNU.sparse.size" => self.sparse.size = parsed(key, value, number::decimal)?,
            b"GNU.sparse.realsize" => self.sparse.real_size = parsed(key, value, number::decimal)?,
            b"GNU.sparse.map" => self.sparse.list = Some(sparse::parse_list(value)?),
            // Format 0.0 repeats these two, in pairs.
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                self.sparse.pairs.push(number::decimal(value).ok_or(SparseError::Number)?)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn push_xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), ExtendedError> {
        let bad = || ExtendedError::Xattr(String::from_utf8_lossy(name).into_owned());
        if name.is_empty() || name.len() > MAX_XATTR_NAME_BYTES || value.len() > MAX_XATTR_VALUE_BYTES {
            return Err(bad());
        }
        self.xattrs.push(Xattr { name: CString::new(name).map_err(|_| bad())?, value: value.to_vec() });
        Ok(())
    }

    /// The sparse file that the records describe, if they do.
    pub(crate) fn take_sparse(&mut self) -> Result<Option<PaxSparse>, ExtendedError> {
        let records = std::mem::take(&mut self.sparse);
        let has_map = records.list.is_some() || records.pairs.len() > 0;
        let before_data = match (records.major, records.minor) {
            (Some(1), Some(0)) => true,
            (Some(0), Some(0 | 1)) => false,
            // Formats 0.0 and 0.1 as they were at first, without a version.
            (None, None) if has_map => false,
            (None, None) => return Ok(None),
            (major, minor) => {
                return Err(ExtendedError::SparseVersion(major.unwrap_or(0), minor.unwrap_or(0)));
            }
        };
        let map = if before_data {
            None
        } else {
            let pairs = records.pairs.finish()?;
            Some(records.list.unwrap_or(pairs))
        };
        Ok(Some(PaxSparse { name: records.name, real_size: records.size.or(records.real_size), map }))
    }
}

/// A name from an `L` or `K` header: up to the first NUL.
pub(crate) fn gnu_long_name(data: &[u8]) -> Result<Vec<u8>, ExtendedError> {
    let name = data.split(|byte| *byte == 0).next().unwrap_or_default();
    if name.len() > MAX_PATH_BYTES { Err(ExtendedError::LongName(name.len())) } else { Ok(name.to_vec()) }
}

/// An empty value takes back what an earlier record said.
fn text(key: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>, ExtendedError> {
    if value.contains(&0) {
        return Err(bad_value(key));
    }
    if value.len() > MAX_PATH_BYTES {
        return Err(ExtendedError::LongName(value.len()));
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

fn parsed<T>(key: &[u8], value: &[u8], parse: fn(&[u8]) -> Option<T>) -> Result<Option<T>, ExtendedError> {
    if value.is_empty() {
        return Ok(None);
    }
    parse(value).map(Some).ok_or_else(|| bad_value(key))
}

fn bad_value(key: &[u8]) -> ExtendedError {
    ExtendedError::Value(String::from_utf8_lossy(key).into_owned())
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use proptest::prelude::*;

    use super::super::pax::push_record;
    use super::*;

    fn parse(records: &[(&str, &[u8])]) -> Result<Extended, ExtendedError> {
        let mut data = Vec::new();
        for (key, value) in records {
            push_record(&mut data, key.as_bytes(), value);
        }
        Extended::parse(&data)
    }

    #[test]
    fn records_replace_fields() {
        let extended = parse(&[
            ("path", b"first"),
            ("path", b"a\nb\xff"),
            ("linkpath", b"target"),
            ("size", b"12"),
            ("size", b""),
            ("uid", b"-2"),
            ("gid", b"4294967294"),
            ("mtime", b"-1.5"),
            ("hdrcharset", b"BINARY"),
            ("SCHILY.xattr.security.capability", b"\x01\0\0\x02\n"),
            ("SCHILY.xattr.user.empty", b""),
        ])
        .unwrap();
        assert_eq!(extended.path.as_deref(), Some(&b"a\nb\xff"[..]));
        assert_eq!(extended.linkpath.as_deref(), Some(&b"target"[..]));
        assert_eq!((extended.size, extended.uid, extended.gid), (None, Some(-2), Some(4_294_967_294)));
        assert_eq!(extended.mtime, Some(Timestamp { seconds: -2, nanoseconds: 500_000_000 }));
        let xattr = |name: &CStr, value: &[u8]| Xattr { name: name.into(), value: value.to_vec() };
        let expected = [xattr(c"security.capability", b"\x01\0\0\x02\n"), xattr(c"user.empty", b"")];
        assert_eq!(extended.xattrs, expected);
    }

    #[test]
    fn bad_values_are_told() {
        let long = [b'x'; MAX_PATH_BYTES + 1];
        let big = vec![0; MAX_XATTR_VALUE_BYTES + 1];
        for (key, value) in [
            ("path", &b"a\0b"[..]),
            ("path", &long),
            ("linkpath", &long),
            ("size", b"-1"),
            ("uid", b"0x1"),
            ("mtime", b"now"),
            ("GNU.sparse.map", b"1"),
            ("SCHILY.xattr.", b"value"),
            ("SCHILY.xattr.user.nul\0", b"value"),
            ("SCHILY.xattr.user.big", &big),
        ] {
            assert!(parse(&[(key, value)]).is_err(), "{key}");
        }
        assert_eq!(gnu_long_name(b"name\0rest"), Ok(b"name".to_vec()));
        assert_eq!(gnu_long_name(&long), Err(ExtendedError::LongName(long.len())));
    }

    #[test]
    fn sparse_formats_are_told_apart() {
        let sparse = |records: &[(&str, &[u8])]| parse(records).unwrap().take_sparse();
        let map = Some(vec![Segment { offset: 1, bytes: 2 }]);
        assert_eq!(sparse(&[]), Ok(None));
        assert_eq!(sparse(&[("GNU.sparse.size", b"9")]), Ok(None));
        let zero_zero =
            [("GNU.sparse.size", &b"9"[..]), ("GNU.sparse.offset", b"1"), ("GNU.sparse.numbytes", b"2")];
        let expected = PaxSparse { name: None, real_size: Some(9), map: map.clone() };
        assert_eq!(sparse(&zero_zero), Ok(Some(expected)));
        let zero_one =
            [("GNU.sparse.name", &b"n"[..]), ("GNU.sparse.size", b"9"), ("GNU.sparse.map", b"1,2")];
        let expected = PaxSparse { name: Some(b"n".to_vec()), real_size: Some(9), map };
        assert_eq!(sparse(&zero_one), Ok(Some(expected)));
        let one_zero =
            [("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"9")];
        let expected = PaxSparse { name: None, real_size: Some(9), map: None };
        assert_eq!(sparse(&one_zero), Ok(Some(expected)));
        let two = [("GNU.sparse.major", &b"2"[..]), ("GNU.sparse.minor", b"0")];
        assert_eq!(sparse(&two), Err(ExtendedError::SparseVersion(2, 0)));
    }

    proptest! {
        #[test]
        fn any_value_of_any_key_ends(
            key in prop::sample::select(vec![
                "path", "size", "mtime", "GNU.sparse.map", "GNU.sparse.offset", "GNU.sparse.major", "SCHILY.xattr.a",
            ]),
            value in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            if let Ok(mut extended) = parse(&[(key, &value)]) {
                let _ = extended.take_sparse();
            }
        }
    }
}
