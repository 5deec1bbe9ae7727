//! Which paths an archive has unpacked so far.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A set of paths, kept as 128-bit keyed hashes: 16 bytes for each path, however long. Which hashes collide cannot be known to whoever
/// made the archive.
#[derive(Debug, Default)]
pub(super) struct Unpacked {
    hashes: HashSet<u128>,
    keys: [RandomState; 2],
}

impl Unpacked {
    /// Adds `path` and the directories that it is in; how many were not there.
    pub(super) fn insert(&mut self, path: &Path) -> usize {
        let known = self.hashes.len();
        for prefix in path.ancestors() {
            // Where a path is known, so are the directories above it.
            if !self.hashes.insert(self.hash(prefix)) {
                break;
            }
        }
        self.hashes.len() - known
    }

    pub(super) fn contains(&self, path: &Path) -> bool {
        self.hashes.contains(&self.hash(path))
    }

    fn hash(&self, path: &Path) -> u128 {
        let [high, low] = self.keys.each_ref().map(|key| key.hash_one(path.as_os_str().as_bytes()));
        u128::from(high) << 64 | u128::from(low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_paths_and_what_they_are_in() {
        let mut unpacked = Unpacked::default();
        assert_eq!(unpacked.insert(Path::new("a/b/c")), 4);
        assert_eq!(unpacked.insert(Path::new("a/b/d")), 1);
        assert_eq!(unpacked.insert(Path::new("a/b")), 0);
        for (path, expected) in [("a", true), ("a/b", true), ("a/b/c", true), ("a/b/e", false), ("b", false)]
        {
            assert_eq!(unpacked.contains(Path::new(path)), expected, "{path}");
        }
    }
}
