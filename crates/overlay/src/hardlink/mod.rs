//! The driver `overlay-hardlink`: homes of the driver that Docker 1.4 to 23 called `overlay`.
//!
//! The layout is from the time when the kernel stacked two directories and no more:
//!
//! ```text
//! <home>/<id>/root/        a filled layer: the whole tree; what the parent has unchanged is another name of the parent's file
//! <home>/<id>/upper/       or else a layer to be written to: what it changes of
//! <home>/<id>/lower-id     the layer with this id, which has a root
//! <home>/<id>/work         overlay's own
//! <home>/<id>/merged/      mount point
//! <home>/<id>/note         ours, ignored by Docker: the parent, and whether the files in root have names in other layers
//! <home>/tempdirs/         ours: what is being made or deleted
//! ```
//!
//! A layer on one without a root is made as a copy of its upper directory, on the same lower layer.
//!
//! **Invariant:** a file with names in several layers is never written to. Unpacking replaces files, and who mounts a filled layer for writing gets
//! [files of its own](tree::own_files) first.

mod check;
mod diff;
mod draft;
mod driver;
mod fill;
mod get;
mod home;
mod ids;
mod layer;
mod note;
mod reference;
mod remove;
mod status;
mod tree;

pub use driver::{DRIVER, HardLinkOverlay};
