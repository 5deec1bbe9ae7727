//! The vfs driver: every layer is a directory of its own that holds all of its files, a copy of its parent's.
//!
//! Works on every file system, needs no mount and no privilege (for files of the user's own ids). Costs a copy of the parent for each layer, which on btrfs, xfs and
//! others that share blocks takes no space until one of the two is written to.
//!
//! The layout is that of containers/storage and Docker: `<home>/dir/<layer>/`. What is ours alone, and ignored by them, is `<home>/parents/<layer>`: a note of the parent
//! and of when it was copied, so that changes can be told without being given the parent, and without missing an edit whose time was put back.

mod check;
mod driver;
mod home;
mod note;
mod options;
mod remove;
mod staged;
mod trees;

pub use driver::{DRIVER, Vfs};
pub use options::VfsTuning;
