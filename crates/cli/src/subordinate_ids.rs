//! The ranges of ids that belong to a user: subuid(5), subgid(5).

/// `count` ids from `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IdRange {
    pub(crate) start: u32,
    pub(crate) count: u32,
}

/// The ranges in the text of `/etc/subuid` or `/etc/subgid` that belong to the user called `name`, or with the number `uid`; both files name users.
///
/// Lines that are not `user:start:count` are passed over, as shadow's own programs do.
pub(crate) fn parse(text: &[u8], name: Option<&str>, uid: u32) -> Vec<IdRange> {
    let lines = text.split(|byte| *byte == b'\n').filter_map(|line| str::from_utf8(line).ok());
    lines.filter_map(|line| parse_line(line.trim(), name, uid)).collect()
}

fn parse_line(line: &str, name: Option<&str>, uid: u32) -> Option<IdRange> {
    let mut fields = line.split(':');
    let (owner, start, count) = (fields.next()?, fields.next()?, fields.next()?);
    let is_ours = name.is_some_and(|name| name == owner) || owner.parse() == Ok(uid);
    let range = IdRange { start: start.parse().ok()?, count: count.parse().ok()? };
    let is_possible = range.count > 0 && range.start.checked_add(range.count).is_some();
    (is_ours && is_possible && fields.next().is_none()).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let range = |start, count| IdRange { start, count };
        let table: [(&str, &[IdRange]); 9] = [
            ("", &[]),
            ("u:100000:65536\n", &[range(100_000, 65_536)]),
            ("# comment\n\nother:1:2\nu:5:6\n1000:7:8", &[range(5, 6), range(7, 8)]),
            ("#u:1:2\n u:5:6 \n", &[range(5, 6)]),
            ("u:1\nu:1:2:3\nu:x:2\nu:1:-2\nu::\n", &[]),
            ("u:1:0\n", &[]),
            ("u:4294967295:2\n", &[]),
            ("uu:1:2\n10000:1:2\n", &[]),
            (":1:2\n", &[]),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text.as_bytes(), Some("u"), 1000), expected, "{text:?}");
        }
        assert_eq!(parse(b"\xff:1:2\nu:3:4\n1000:5:6\n", None, 1000), [range(5, 6)]);
    }
}
