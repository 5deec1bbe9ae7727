//! Listing the directories above a change.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::change::{Change, ChangeKind};

/// Sorts `changes` and lists each directory above one as modified, unless it is listed already: the form in which [`changes`](crate::changes) tells of two trees. The root never is.
#[must_use]
pub fn with_parents(changes: Vec<Change>) -> Vec<Change> {
    sort_with_parents(changes, |_| true)
}

/// Sorts `changes` and lists each directory above one that `counts` as modified, unless it is listed already. The root never is.
pub(super) fn sort_with_parents(mut changes: Vec<Change>, counts: impl Fn(&Change) -> bool) -> Vec<Change> {
    let mut above: HashSet<&Path> = HashSet::new();
    for change in changes.iter().filter(|change| counts(change)) {
        for directory in
            change.path.ancestors().skip(1).take_while(|path| path.as_os_str().as_bytes() != b"/")
        {
            // One that was met before has brought those above it along.
            if !above.insert(directory) {
                break;
            }
        }
    }
    let above: Vec<PathBuf> = above.into_iter().map(Path::to_owned).collect();
    changes.extend(above.into_iter().map(|path| Change::new(path, ChangeKind::Modify)));
    changes.sort();
    // `Modify` sorts before the kinds that say more.
    changes.dedup_by(|later, earlier| {
        let same = later.path == earlier.path;
        if same {
            earlier.kind = later.kind;
        }
        same
    });
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(changes: &[(&str, ChangeKind)], counts: impl Fn(&Change) -> bool) -> String {
        let changes = changes.iter().map(|(path, kind)| Change::new(*path, *kind)).collect();
        sort_with_parents(changes, counts).iter().map(Change::to_string).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn adds_what_is_missing_above_and_never_the_root() {
        use ChangeKind::{Add, Delete, Modify};
        for (changes, expected) in [
            (&[("/a/b/c", Modify)][..], "C /a, C /a/b, C /a/b/c"),
            (&[("/a/b/c", Add), ("/a", Add)], "A /a, C /a/b, A /a/b/c"),
            (&[("/a/b", Delete), ("/a/b/c", Add)], "C /a, D /a/b, A /a/b/c"),
            (&[("/x", Delete)], "D /x"),
        ] {
            assert_eq!(listed(changes, |_| true), expected);
        }
        assert_eq!(listed(&[("/a/b", Modify)], |change| change.kind != Modify), "C /a/b");
    }
}
