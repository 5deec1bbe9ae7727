//! PAX extended header records: `<length> <key>=<value>\n` (POSIX `pax`, "pax Extended Header"). No I/O.
//!
//! The length counts the whole record, itself included, so that keys and values may hold any byte, newlines too. (The `tar` crate splits
//! at newlines, which breaks binary values such as capabilities and ACLs.)

/// Key prefix of extended attributes; the attribute's name follows it.
pub(crate) const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

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

fn decimal_digits(number: usize) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
