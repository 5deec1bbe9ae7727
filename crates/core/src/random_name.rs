//! Names that nobody else uses.

/// Twelve random characters; for files that are made with `O_EXCL`, so that a name met twice is noticed.
pub(crate) fn random_name() -> String {
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    rand::random::<[u8; 12]>().iter().map(|byte| char::from(DIGITS[usize::from(byte % 32)])).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_differ_and_are_plain() {
        let names: BTreeSet<_> = (0..1000).map(|_| random_name()).collect();
        assert_eq!(names.len(), 1000);
        assert!(
            names
                .iter()
                .all(|name| name.len() == 12 && name.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        );
    }
}
