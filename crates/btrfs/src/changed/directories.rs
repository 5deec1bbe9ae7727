//! Which directories lost names.

use std::collections::{HashMap, HashSet};

use graphdriver_sys::btrfs::item::{Inode, NAME_WEIGHT};

/// Directories that changed, by inode number, each with by how much more it grew than the names explain that are known to be new.
///
/// What was removed has left nothing in the tree by which it could be found; but the size of a directory is that of the names in it. Where it grew by the new names, none was lost, and the directory
/// need not be listed.
#[derive(Debug, Default)]
pub(super) struct Directories(HashMap<u64, Option<i128>>);

impl Directories {
    /// Adds a directory with what it was `before`: `None` when it is new, or when what is known of its names does not suffice.
    pub(super) fn add(&mut self, number: u64, now: &Inode, before: Option<&Inode>) {
        let growth = before.map(|before| i128::from(now.size) - i128::from(before.size));
        self.0.insert(number, growth);
    }

    /// Whether new names in it are to be told.
    pub(super) fn count(&self, number: u64) -> bool {
        matches!(self.0.get(&number), Some(Some(_)))
    }

    /// Takes note of a name in it that it did not have before, for this file.
    pub(super) fn explain(&mut self, number: u64, name: &[u8]) {
        if let Some(Some(growth)) = self.0.get_mut(&number) {
            *growth -= i128::from(NAME_WEIGHT) * i128::try_from(name.len()).unwrap_or(i128::MAX);
        }
    }

    /// Those that may have lost a name.
    pub(super) fn that_lost_names(self) -> HashSet<u64> {
        let lost = self.0.into_iter().filter(|(_, growth)| *growth != Some(0));
        lost.map(|(number, _)| number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(size: u64) -> Inode {
        let mut data = [0; 160];
        data[16..24].copy_from_slice(&size.to_le_bytes());
        Inode::parse(&data).unwrap()
    }

    #[test]
    fn names_that_are_gone_show_in_the_size() {
        // Sizes before and after, names that are new, and whether one was lost.
        for (before, now, new, lost) in [
            (Some(10), 10, &[][..], false),
            (Some(10), 16, &["new"][..], false),
            (Some(10), 4, &[], true),
            // Another of the same length is gone.
            (Some(10), 10, &["new"], true),
            (Some(10), 24, &["new", "newer!!"], true),
            (None, 10, &[], true),
        ] {
            let mut directories = Directories::default();
            directories.add(300, &directory(now), before.map(directory).as_ref());
            assert_eq!((directories.count(300), directories.count(301)), (before.is_some(), false));
            for name in new {
                directories.explain(300, name.as_bytes());
                directories.explain(301, name.as_bytes());
            }
            let expected: Vec<u64> = lost.then_some(300).into_iter().collect();
            let found: Vec<u64> = directories.that_lost_names().into_iter().collect();
            assert_eq!(found, expected, "{before:?} {now} {new:?}");
        }
    }
}
