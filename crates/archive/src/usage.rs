//! What a tree occupies.

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
