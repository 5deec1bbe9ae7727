//! The aufs driver of graphdriver: homes of Docker's driver `aufs` (until 23) and of containers/storage's.
//!
//! Each layer is a directory, a *branch*; the file system AUFS stacks them. No distribution's kernel has AUFS any more, and only [mounting](graphdriver_core::Driver::get) a layer with others below it takes one: layers
//! are listed, compared, filled, removed and [migrated](Aufs::migrate) on every kernel, since all of that is done in their directories.
//!
//! ```text
//! <home>/layers/<id>     the layers below, one on a line, the nearest first; empty for a base layer. The layer exists when this file does.
//! <home>/diff/<id>/      what the layer adds, with a file .wh.<name> for each name that it removes
//! <home>/mnt/<id>/       mount point
//! <home>/tempdirs/       ours: what is being made or deleted
//! ```

mod branches;
mod check;
mod diff;
mod draft;
mod driver;
mod fill;
mod get;
mod home;
mod kernel;
mod migrate;
mod mount;
mod opacity;
mod options;
mod reference;
mod remove;
mod status;
mod unmount;

pub use driver::{Aufs, DRIVER};
pub use migrate::Migrated;
