//! Reading what `zfs` and `zpool` print. Nothing here asks or runs anything.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The lines of an output of `-H` with `N` columns; `None` for an output of another form.
pub(crate) fn rows<const N: usize>(output: &[u8]) -> Option<Vec<[&str; N]>> {
    let text = std::str::from_utf8(output).ok()?;
    text.lines().map(|line| line.split('\t').collect::<Vec<_>>().try_into().ok()).collect()
}

/// A number as `-p` prints it; properties that a dataset has not are `-`, and limits that are not set `none` or zero.
pub(crate) fn number(text: &str) -> Option<u64> {
    match text {
        "-" | "none" => Some(0),
        _ => text.parse().ok(),
    }
}

/// The sum of a column of numbers.
pub(crate) fn sum(output: &[u8]) -> Option<u64> {
    let rows = rows::<1>(output)?;
    rows.into_iter().try_fold(0_u64, |sum, [text]| sum.checked_add(number(text)?))
}

/// A line of `zfs diff -F -H -t`, with the paths as that prints them: the mount point of the dataset, then the path in it. What became of the file is for the comparison to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiffLine {
    pub(crate) path: PathBuf,
    /// What a renamed file is called now.
    pub(crate) now: Option<PathBuf>,
}

/// The lines of `zfs diff -F -H -t`; `None` for anything else.
///
/// `<time> TAB <mark> TAB <kind of file> TAB <path>`, and for what was renamed ` TAB <new path>`, for a changed number of links ` TAB (+1)`. Bytes of paths that are not printable, the
/// space and the backslash are a backslash and four octal digits, so that tabs and line ends separate only.
pub(crate) fn diff(output: &[u8]) -> Option<Vec<DiffLine>> {
    let lines = output.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(diff_line).collect()
}

fn diff_line(line: &[u8]) -> Option<DiffLine> {
    let mut fields = line.split(|byte| *byte == b'\t');
    let time = fields.next()?;
    if time.is_empty() || !time.iter().all(|byte| byte.is_ascii_digit() || b".-".contains(byte)) {
        return None;
    }
    let mark = fields.next().filter(|mark| [&b"+"[..], b"-", b"M", b"R"].contains(mark))?;
    let [_kind] = fields.next()? else { return None };
    let path = unescape(fields.next()?)?;
    let last = fields.next();
    if fields.next().is_some() {
        return None;
    }
    let now = match (mark, last) {
        (b"R", now) => Some(unescape(now?)?),
        (b"M", Some(links)) if is_count(links) => None,
        (_, Some(_)) => return None,
        (_, None) => None,
    };
    Some(DiffLine { path, now })
}

/// `(+1)`, `(-2)`: how many names a file has won or lost.
fn is_count(field: &[u8]) -> bool {
    let inner = field.strip_prefix(b"(").and_then(|rest| rest.strip_suffix(b")"));
    let digits = inner.and_then(|inner| inner.strip_prefix(b"+").or_else(|| inner.strip_prefix(b"-")));
    digits.is_some_and(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
}

fn unescape(text: &[u8]) -> Option<PathBuf> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(4)?;
        rest = tail;
        let value = digits.iter().try_fold(0_u32, |value, digit| {
            (b'0'..=b'7').contains(digit).then(|| value * 8 + u32::from(digit - b'0'))
        })?;
        bytes.push(u8::try_from(value).ok()?);
    }
    (bytes.first() == Some(&b'/') && !bytes.contains(&0)).then(|| OsString::from_vec(bytes).into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tables_have_the_columns_that_were_asked_for() {
        assert_eq!(
            rows::<2>(b"tank/a\tlegacy\ntank/b c\t-\n"),
            Some(vec![["tank/a", "legacy"], ["tank/b c", "-"]])
        );
        assert_eq!(rows::<2>(b""), Some(vec![]));
        for output in [&b"tank/a\n"[..], b"a\tb\tc\n", b"\xff\tb\n"] {
            assert_eq!(rows::<2>(output), None, "{output:?}");
        }
        assert_eq!(sum(b"10\n5\n"), Some(15));
        assert_eq!(sum(b"-\n"), Some(0));
        assert_eq!(sum(b"5K\n"), None, "not of -p");
        assert_eq!(sum(b"18446744073709551615\n1\n"), None);
    }

    #[test]
    fn diffs_are_read_line_by_line() {
        let line = |path: &str, now: Option<&str>| DiffLine { path: path.into(), now: now.map(Into::into) };
        for (output, expected) in [
            ("1700000000.123456789\tM\t/\t/mnt/\n", line("/mnt/", None)),
            ("1700000000.000000001\t+\tF\t/mnt/a\\0040b\\0012c\\0134\n", line("/mnt/a b\nc\\", None)),
            ("1700000000.5\t-\t@\t/mnt/link\n", line("/mnt/link", None)),
            ("1700000000.5\tM\tF\t/mnt/file\t(+1)\n", line("/mnt/file", None)),
            ("1700000000.5\tM\tF\t/mnt/file\t(-12)\n", line("/mnt/file", None)),
            ("-1.5\tR\tF\t/mnt/old\t/mnt/new\n", line("/mnt/old", Some("/mnt/new"))),
            ("1.5\t+\t|\t/mnt/\\0303\\0251", line("/mnt/é", None)),
        ] {
            assert_eq!(diff(output.as_bytes()), Some(vec![expected]), "{output:?}");
        }
        assert_eq!(diff(b""), Some(vec![]));
    }

    #[test]
    fn what_is_no_diff_is_refused() {
        for output in [
            "M\t/\t/mnt/\n",
            "1.5\tX\tF\t/mnt/a\n",
            "1.5\tM\tFF\t/mnt/a\n",
            "1.5\tM\tF\tmnt/a\n",
            "1.5\tM\tF\t/mnt/a\t/mnt/b\n",
            "1.5\tR\tF\t/mnt/a\n",
            "1.5\tM\tF\t/mnt/a\\04\n",
            "1.5\tM\tF\t/mnt/a\\0999\n",
            "1.5\tM\tF\t/mnt/a\\0000\n",
            "1.5\tM\tF\t/mnt/a\\0400\n",
            "1.5\tM\tF\t/mnt/a\0\n",
            "1.5\tM\tF\t/mnt/a\t(+)\n",
            "1.5\tR\tF\t/a\t/b\t/c\n",
            "warning: something\n",
        ] {
            assert_eq!(diff(output.as_bytes()), None, "{output:?}");
        }
    }

    /// As `zfs diff` writes it (`stream_bytes` of libzfs).
    fn escape(path: &[u8]) -> String {
        path.iter()
            .map(|byte| match byte {
                b'!'..=b'~' if *byte != b'\\' => char::from(*byte).to_string(),
                _ => format!("\\{byte:04o}"),
            })
            .collect()
    }

    proptest! {
        #[test]
        fn any_path_survives(name in prop::collection::vec(1_u8.., 0..40)) {
            let path = [b"/".as_slice(), &name].concat();
            let output = format!("1.5\t+\tF\t{}\n", escape(&path));
            let read = diff(output.as_bytes()).unwrap();
            prop_assert_eq!(read[0].path.as_os_str().as_encoded_bytes(), path.as_slice());
        }

        #[test]
        fn any_bytes_are_read_or_refused(output in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = diff(&output);
            let _ = rows::<3>(&output);
            let _ = sum(&output);
        }

        #[test]
        fn any_fields_are_read_or_refused(fields in prop::collection::vec("[0-9.+MR/F\\\\()-]{0,6}", 0..6)) {
            let _ = diff(fields.join("\t").as_bytes());
        }
    }
}
