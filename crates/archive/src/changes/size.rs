//! How much a list of changes weighs.

use std::collections::HashSet;

use graphdriver_sys::FileType;

use crate::change::{Change, ChangeKind};
use crate::error::Result;
use crate::root::RootDir;

/// The bytes of all files that `changes` adds or modifies in the tree at `root`: their apparent sizes, each inode once, directories and deleted
/// paths not counted.
///
/// A path that is not there any more (the tree is in use) is left out with a warning.
///
/// # Errors
/// The kind of the failed system call.
#[doc(alias = "ChangesSize")]
pub fn changes_size(root: &RootDir, changes: &[Change]) -> Result<u64> {
    let mut linked = HashSet::new();
    let mut bytes = 0_u64;
    for change in changes.iter().filter(|change| change.kind != ChangeKind::Delete) {
        let Some(stat) = root.lstat(&change.path)? else {
            tracing::warn!(path = ?change.path, "changed file is gone, not counted");
            continue;
        };
        if FileType::from_mode(stat.st_mode).is_dir() {
            continue;
        }
        if stat.st_nlink < 2 || linked.insert((stat.st_dev, stat.st_ino)) {
            bytes = bytes.saturating_add(u64::try_from(stat.st_size).unwrap_or(0));
        }
    }
    Ok(bytes)
}
