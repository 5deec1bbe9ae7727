//! Which names a record has. Go's readers refuse one that is there twice.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::ffi::OsStrExt;

use crate::root::clean_name;

/// How the entry of a name is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// As the archive has it.
    AsIs,
    /// Not at all: there is one already, and this one adds nothing to the archive.
    Omitted,
    /// With a slash before it, which to Go is another name and leads to the same file.
    Rooted,
    /// It cannot be: the layer no longer has what an earlier entry of that name held.
    Lost,
}

/// The names so far, as 128-bit keyed hashes.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashMap<u128, Spellings>,
    keys: [RandomState; 2],
}

#[derive(Clone, Copy, Debug, Default)]
struct Spellings {
    relative: bool,
    rooted: bool,
    has_content: bool,
}

impl Names {
    /// Adds the name of the next entry.
    pub(super) fn add(&mut self, name: &[u8], has_content: bool) -> Naming {
        let Ok(path) = clean_name(name) else { return Naming::Lost };
        let [high, low] = self.keys.each_ref().map(|key| key.hash_one(path.as_os_str().as_bytes()));
        let spellings = self.known.entry(u128::from(high) << 64 | u128::from(low)).or_default();
        if spellings.has_content {
            return Naming::Lost;
        }
        spellings.has_content = has_content;
        let is_rooted = name.starts_with(b"/");
        let same = if is_rooted { &mut spellings.rooted } else { &mut spellings.relative };
        if !std::mem::replace(same, true) {
            return Naming::AsIs;
        }
        if !has_content {
            return Naming::Omitted;
        }
        if is_rooted || std::mem::replace(&mut spellings.rooted, true) {
            return Naming::Lost;
        }
        Naming::Rooted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_written_once() {
        let mut names = Names::default();
        for (name, has_content, expected) in [
            (&b"a/"[..], false, Naming::AsIs),
            (b"./a", false, Naming::Omitted),
            (b"a", true, Naming::Rooted),
            (b"a", false, Naming::Lost),
            (b"b/../a", true, Naming::Lost),
            (b"c", true, Naming::AsIs),
            (b"/c", true, Naming::Lost),
            (b"d", false, Naming::AsIs),
            (b"/d", true, Naming::AsIs),
            (b"/e", false, Naming::AsIs),
            (b"//e", true, Naming::Lost),
            (b"../f", false, Naming::Lost),
            (b"f\xff", true, Naming::AsIs),
        ] {
            assert_eq!(names.add(name, has_content), expected, "{}", name.escape_ascii());
        }
    }
}
