//! How two trees are compared.

use std::time::SystemTime;

use crate::id_map::IdMaps;

/// When two regular files of equal size, time and metadata count as equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContentCheck {
    /// Always: times are compared to the nanosecond. Misses an edit that put the old time back.
    #[default]
    Metadata,
    /// When neither file's inode has changed (`ctime`) after this moment, at which the newer tree was made as a copy of the
    /// older; else their contents are compared. Misses nothing, and reads only what was touched.
    CopiedAt(SystemTime),
    /// When their contents are equal. Reads both files.
    Content,
    /// When their contents are equal, which they are without reading where the file system says that both are the same blocks (`FIEMAP`). For two trees
    /// on one file system, whose device numbers may differ all the same, as those of btrfs subvolumes do.
    Blocks,
}

/// How `changes` compares.
#[derive(Clone, Debug, Default)]
pub struct CompareOptions {
    /// Maps of the newer tree: owners are compared as container ids.
    pub new_id_maps: IdMaps,
    /// Maps of the older tree.
    pub old_id_maps: IdMaps,
    /// When equal metadata is enough.
    pub content: ContentCheck,
}
