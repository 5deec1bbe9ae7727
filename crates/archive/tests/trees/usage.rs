//! What a tree occupies.

use graphdriver_archive::{DiskUsage, RootDir, disk_usage};

use crate::support::Tree;

#[test]
fn counts_apparent_sizes_and_each_inode_once() {
    let tree = Tree::new();
    assert_eq!(disk_usage(&tree.root()).unwrap(), DiskUsage { bytes: 0, inodes: 1 });
    tree.file("empty", "").file("file", "12345").file("a/b/c/nested", "123").link("a/link", "file");
    tree.symlink("symlink", "target");
    assert_eq!(disk_usage(&tree.root()).unwrap(), DiskUsage { bytes: 14, inodes: 8 });
}

#[test]
fn a_missing_directory_is_an_error() {
    assert!(RootDir::open(Tree::new().path("missing")).is_err());
}
