//! Container layer tars in and out.
//!
//! A layer travels as a tar stream in which whiteouts say what of the layers below is gone (the OCI image format's change
//! set). This crate fills a directory from such a stream, writes one from a directory or from a list of changes, and finds the changes
//! between two trees. It knows no driver, keeps nothing on disk of its own, and works on any Linux file system.
//!
//! All access goes through [`RootDir`]: descriptors and `openat2(2)`, so that no name in a hostile archive and no symbolic link in a hostile tree
//! leads outside.

mod apply;
mod change;
mod changes;
mod chown;
mod copy;
mod dedup;
pub mod erofs;
mod error;
mod export;
mod found;
mod id_map;
pub mod override_stat;
mod root;
mod stack;
mod tar;
pub mod tar_split;
mod usage;
mod walk;
pub mod whiteout;
mod xattrs;

pub use apply::{Applied, ApplyOptions, ArchiveDigest, WhiteoutMode, apply, apply_recorded};
pub use change::{Change, ChangeKind};
pub use changes::{
    CompareOptions, ContentCheck, SuspectPlace, Suspects, changes, changes_among, changes_size,
    layer_changes, layer_size, names_of, with_parents,
};
pub use chown::{chown_root, chown_tree};
pub use copy::{CopyMethod, CopyOptions, copy_tree, link_tree};
pub use dedup::{DedupHash, dedup};
pub use error::{Error, ErrorKind, Result};
pub use export::{Export, ExportOptions};
pub use id_map::{IdMap, IdMaps, OVERFLOW_ID, Owner};
pub use root::{Location, RootDir, clean_name, remove_at};
pub use stack::LayerStack;
pub use usage::{DiskUsage, disk_usage};
