//! Which directories lost names that are not known.

use std::collections::{HashMap, HashSet};

use graphdriver_sys::btrfs::item::{Inode, NAME_WEIGHT};

use super::tree::Name;

/// Directories that changed, by inode number, each with by how much more it grew than the names explain that are known to be new or lost.
///
/// What was removed has left nothing in the tree by which it could surely be found; but the size of a directory is that of the names in it. All new names are known. Where a directory grew by these less those known to be lost,
/// it lost no other, and need not be listed.
#[derive(Debug, Default)]
pub(super) struct Directories(HashMap<u64, Option<i128>>);

impl Directories {
    /// Adds a directory with what it was `before`: `None` when it is new, or when what is known of its names does not suffice.
    pub(super) fn add(&mut self, number: u64, now: &Inode, before: Option<&Inode>) {
        let growth = before.map(|before| i128::from(now.size) - i128::from(before.size));
        self.0.insert(number, growth);
    }

    /// Whether it is among them.
    pub(super) fn contains(&self, number: u64) -> bool {
        self.0.contains_key(&number)
    }

    /// Takes note of a name in it that it did not have before, for this file.
    pub(super) fn gained(&mut self, name: &Name) {
        self.explain(name.directory, -weight(name));
    }

    /// Takes note of a name that it had before for this file, and has no more.
    pub(super) fn lost(&mut self, name: &Name) {
        self.explain(name.directory, weight(name));
    }

    fn explain(&mut self, number: u64, growth: i128) {
        if let Some(Some(left)) = self.0.get_mut(&number) {
            *left += growth;
        }
    }

    /// Whether all of them are explained.
    pub(super) fn are_explained(&self) -> bool {
        self.0.values().all(|growth| *growth == Some(0))
    }

    /// Those that may have lost a name of which no note was taken.
    pub(super) fn unexplained(self) -> HashSet<u64> {
        let left = self.0.into_iter().filter(|(_, growth)| *growth != Some(0));
        left.map(|(number, _)| number).collect()
    }
}

fn weight(name: &Name) -> i128 {
    // Names have 255 bytes at most.
    i128::from(NAME_WEIGHT) * i128::try_from(name.name.len()).unwrap_or(0)
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
        // Sizes before and after, names that are new, names known to be lost, and whether others were lost.
        for (before, now, new, lost, others) in [
            (Some(10), 10, &[][..], &[][..], false),
            (Some(10), 16, &["new"], &[], false),
            (Some(10), 4, &[], &[], true),
            (Some(10), 4, &[], &["old"], false),
            (Some(20), 8, &[], &["old"], true),
            // Another of the same length is gone.
            (Some(10), 10, &["new"], &[], true),
            (Some(10), 10, &["new"], &["old"], false),
            (Some(10), 24, &["new", "newer!!"], &[], true),
            (None, 10, &[], &[], true),
        ] {
            let mut directories = Directories::default();
            directories.add(300, &directory(now), before.map(directory).as_ref());
            assert_eq!((directories.contains(300), directories.contains(301)), (true, false));
            for directory in [300, 301] {
                let name = |name: &&str| Name { directory, name: name.as_bytes().to_vec() };
                for name in new.iter().map(name) {
                    directories.gained(&name);
                }
                for name in lost.iter().map(name) {
                    directories.lost(&name);
                }
            }
            assert_eq!(directories.are_explained(), !others, "{before:?} {now} {new:?} {lost:?}");
            let expected: Vec<u64> = others.then_some(300).into_iter().collect();
            let found: Vec<u64> = directories.unexplained().into_iter().collect();
            assert_eq!(found, expected, "{before:?} {now} {new:?} {lost:?}");
        }
    }
}
