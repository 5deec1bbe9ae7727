//! The btrfs driver: every layer is a subvolume, made as a snapshot of its parent's.
//!
//! A snapshot costs nothing however large the parent is, and both share all blocks until one of the two is written to. Needs a home on btrfs and Linux 4.18; all is done by
//! `ioctl(2)`, so that neither programs nor libraries of btrfs are needed.
//!
//! The layout is that of containers/storage and Docker: `<home>/subvolumes/<layer>/`, and `<home>/quotas/<layer>` with the limit of a layer in bytes.

mod changed;
mod check;
mod destroy;
mod driver;
mod get;
mod home;
#[cfg(feature = "libbtrfsutil")]
mod library;
mod options;
mod quotas;
mod remove;
mod staged;
mod status;
mod subvolume;
#[cfg(test)]
mod test_volume;
mod trees;

pub use driver::{Btrfs, DRIVER};
