//! The zfs driver: every layer is a dataset of its own, a clone of its parent's.
//!
//! Creating a layer costs the same however large its parent is, blocks are shared until they are written to, and what changed since a layer was cloned is asked of the pool.
//! Needs ZFS on Linux with its programs `zfs` and `zpool`, and root.
//!
//! The layout is that of containers/storage and Docker: datasets `<parent dataset>/<layer>` with `mountpoint=legacy`, mounted on `<home>/graph/<layer>` while they are used. What is
//! ours alone are datasets and snapshots in the making, whose names no layer can have.

mod busy;
mod check;
mod command;
mod dataset;
mod diff;
mod driver;
mod get;
mod home;
#[cfg(feature = "libzfs")]
mod library;
#[cfg(not(feature = "libzfs"))]
#[path = "no_library.rs"]
mod library;
mod mount;
mod mount_options;
mod options;
mod parse;
mod pool;
mod remove;
mod staged;
mod status;
mod sweep;
mod trees;

pub use driver::{DRIVER, Zfs};
pub use options::ZfsTuning;
