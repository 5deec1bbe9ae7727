//! What a tree occupies.

use std::collections::HashSet;

use graphdriver_sys::FileType;

use crate::error::Result;
use crate::root::RootDir;
use crate::walk::{Visited, visit_tree};

/// Size of a tree: apparent sizes of its files, and how many inodes they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Sum of the apparent sizes of all that is not a directory, in bytes; each inode once.
    #[doc(alias = "Size")]
    pub bytes: u64,
    /// Inodes, directories and the root included.
    #[doc(alias = "InodeCount")]
    pub inodes: u64,
}

/// Counts what is in `root`. What vanishes meanwhile is not counted.
///
/// # Errors
/// The kind of the failed system call, with the path inside the root.
#[doc(alias = "Usage")]
#[doc(alias = "directory.Usage")]
pub fn disk_usage(root: &RootDir) -> Result<DiskUsage> {
    let mut usage = DiskUsage { bytes: 0, inodes: 1 };
    let mut linked = HashSet::new();
    visit_tree(root, |Visited { stat, .. }| {
        let is_dir = FileType::from_mode(stat.st_mode).is_dir();
        if is_dir || stat.st_nlink < 2 || linked.insert((stat.st_dev, stat.st_ino)) {
            usage.inodes += 1;
            let bytes = if is_dir { 0 } else { u64::try_from(stat.st_size).unwrap_or(0) };
            usage.bytes = usage.bytes.saturating_add(bytes);
        }
        Ok(true)
    })?;
    Ok(usage)
}
