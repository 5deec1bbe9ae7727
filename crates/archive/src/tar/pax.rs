//! PAX extended header records: `<length> <key>=<value>\n` (POSIX `pax`, "pax Extended Header"). No I/O.
//!
//! The length counts the whole record, itself included, so that keys and values may hold any byte, newlines too. (The `tar` crate splits
//! at newlines, which breaks binary values such as capabilities and ACLs.)

/// Key prefix of extended attributes; the attribute's name follows it.
const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

/// The records of one extended header, first to last; stops with an error at the first that is malformed.
pub(crate) struct Records<'a> {
    rest: &'a [u8],
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("the length of a PAX record is not a number")]
    Length,
    #[error("a PAX record is longer than its header")]
    Truncated,
    #[error("a PAX record does not end in a newline")]
    Newline,
    #[error("a PAX record has no key")]
    Key,
}

impl<'a> Records<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    fn split_first(&mut self) -> Result<(&'a [u8], &'a [u8]), RecordError> {
        let space = self.rest.iter().take(21).position(|byte| *byte == b' ').ok_or(RecordError::Length)?;
        let length = super::number::decimal(&self.rest[..space]).ok_or(RecordError::Length)?;
        let length = usize::try_from(length).map_err(|_| RecordError::Truncated)?;
        if length <= space {
            return Err(RecordError::Length);
        }
        let record = self.rest.get(space + 1..length).ok_or(RecordError::Truncated)?;
        let record = record.strip_suffix(b"\n").ok_or(RecordError::Newline)?;
        let equals =
            record.iter().position(|byte| *byte == b'=').filter(|at| *at > 0).ok_or(RecordError::Key)?;
        self.rest = &self.rest[length..];
        Ok((&record[..equals], &record[equals + 1..]))
    }
}

impl<'a> Iterator for Records<'a> {
    /// Key and value.
    type Item = Result<(&'a [u8], &'a [u8]), RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = self.split_first();
        if record.is_err() {
            self.rest = &[];
        }
        Some(record)
    }
}

/// Appends the record of `key`, which must not be empty or have `=` in it, and `value`.
pub(crate) fn push_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // Space, equals sign and newline, and the length's own digits, which are counted too.
    let bare = key.len() + value.len() + 3;
    let mut length = bare + decimal_digits(bare);
    if decimal_digits(length) != decimal_digits(bare) {
        length = bare + decimal_digits(length);
    }
    out.reserve(length);
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// The key of the record for the extended attribute `name`.
///
/// Keys end at the first `=`, so one in the name is written `%3D`, as GNU tar does. It also writes `%25` for each percent sign; here only for those that
/// would else be read as a code, because other programs know of none.
pub(crate) fn xattr_key(name: &[u8]) -> Vec<u8> {
    let mut key = XATTR_PREFIX.to_vec();
    for (at, byte) in name.iter().enumerate() {
        match byte {
            b'=' => key.extend_from_slice(EQUALS_CODE),
            b'%' if is_code(&name[at..]) => key.extend_from_slice(PERCENT_CODE),
            byte => key.push(*byte),
        }
    }
    key
}

/// The name of the extended attribute that the record with this key holds; `None` when it is for something else.
pub(crate) fn xattr_name(key: &[u8]) -> Option<Vec<u8>> {
    let mut rest = key.strip_prefix(XATTR_PREFIX)?;
    let mut name = Vec::with_capacity(rest.len());
    while let [first, after @ ..] = rest {
        let byte = if rest.starts_with(EQUALS_CODE) { b'=' } else { *first };
        name.push(byte);
        rest = if is_code(rest) { &rest[PERCENT_CODE.len()..] } else { after };
    }
    Some(name)
}

const EQUALS_CODE: &[u8] = b"%3D";
const PERCENT_CODE: &[u8] = b"%25";

fn is_code(text: &[u8]) -> bool {
    text.starts_with(EQUALS_CODE) || text.starts_with(PERCENT_CODE)
}

fn decimal_digits(number: usize) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type AnyPair<'a> = (&'a [u8], &'a [u8]);
    type Case = (&'static [u8], Result<&'static [Pair], RecordError>);
    type Pair = (&'static [u8], &'static [u8]);

    fn parse(data: &[u8]) -> Result<Vec<AnyPair<'_>>, RecordError> {
        Records::new(data).collect()
    }

    #[test]
    fn reads_records_whatever_bytes_they_hold() {
        let cases: [Case; 14] = [
            (b"", Ok(&[])),
            (b"6 k=1\n", Ok(&[(b"k", b"1")])),
            (b"5 k=\n", Ok(&[(b"k", b"")])),
            (b"6 a==\n7 b=\n=\n", Ok(&[(b"a", b"="), (b"b", b"\n=")])),
            (b"8 k=\0\xff\n\n", Ok(&[(b"k", b"\0\xff\n")])),
            (b"006 k=1\n", Err(RecordError::Newline)),
            (b"007 k=1\n", Err(RecordError::Newline)),
            (b"008 k=1\n", Ok(&[(b"k", b"1")])),
            (b"6 k=1", Err(RecordError::Truncated)),
            (b"18446744073709551615 k=1\n", Err(RecordError::Truncated)),
            (b"99999999999999999999999 k=1\n", Err(RecordError::Length)),
            (b"-6 k=1\n", Err(RecordError::Length)),
            (b"5 =1\n", Err(RecordError::Key)),
            (b"1 k=1\n", Err(RecordError::Length)),
        ];
        for (data, expected) in cases {
            assert_eq!(parse(data), expected.map(<[Pair]>::to_vec), "{data:?}");
        }
        assert_eq!(parse(b"6 k=12\n"), Err(RecordError::Newline));
        assert_eq!(parse(b"4 k\n\n"), Err(RecordError::Key));
    }

    #[test]
    fn lengths_count_themselves() {
        for value_bytes in 0..1200 {
            let mut data = Vec::new();
            push_record(&mut data, b"key", &vec![b'x'; value_bytes]);
            let text = String::from_utf8(data.clone()).unwrap();
            let (length, _) = text.split_once(' ').unwrap();
            assert_eq!(length.parse::<usize>().unwrap(), data.len());
        }
    }

    #[test]
    fn attribute_names_are_coded_as_gnu_tar_does() {
        for (name, key) in [
            (&b"user.plain"[..], &b"SCHILY.xattr.user.plain"[..]),
            (b"user.a=b", b"SCHILY.xattr.user.a%3Db"),
            (b"user.50%", b"SCHILY.xattr.user.50%"),
            (b"user.%3D%25", b"SCHILY.xattr.user.%253D%2525"),
        ] {
            assert_eq!(xattr_key(name), key);
            assert_eq!(xattr_name(key).unwrap(), name);
        }
        assert_eq!(xattr_name(b"SCHILY.xattr.user.50%25").unwrap(), b"user.50%");
        assert_eq!(xattr_name(b"SCHILY.acl.access"), None);
    }

    proptest! {
        #[test]
        fn attribute_names_come_back(name in "[%=23D5a]{0,12}") {
            let key = xattr_key(name.as_bytes());
            prop_assert!(!key.contains(&b'='));
            prop_assert_eq!(xattr_name(&key).unwrap(), name.as_bytes());
        }

        #[test]
        fn what_is_written_is_read(
            pairs in prop::collection::vec(("[^=]{1,20}", prop::collection::vec(any::<u8>(), 0..300)), 0..10)
        ) {
            let mut data = Vec::new();
            for (key, value) in &pairs {
                push_record(&mut data, key.as_bytes(), value);
            }
            let expected: Vec<_> = pairs.iter().map(|(key, value)| (key.as_bytes(), value.as_slice())).collect();
            prop_assert_eq!(parse(&data).unwrap(), expected);
        }

        #[test]
        fn any_bytes_end_in_records_or_an_error(data in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&data);
        }
    }
}
