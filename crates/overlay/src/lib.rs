//! The overlay driver of graphdriver.
//!
//! Each layer is a directory; the kernel's overlay file system stacks a layer's directory on those of the layers below. A home in the layout of
//! containers/storage's `overlay` or Docker's `overlay2` opens as it is, and those programs read the layers that are written here.
//!
//! [`DRIVER`] is what a [`Registry`](graphdriver_core::Registry) takes; [`Overlay`] is the driver itself.
//!
//! Beside it, [`HARD_LINK_DRIVER`] opens homes of the driver that Docker called `overlay` before there was `overlay2`.

mod additional_layer;
mod check;
mod cleanup;
mod committed;
mod composefs;
mod create;
mod dedup;
mod diff;
mod driver;
mod exact;
mod file_getter;
mod fill;
mod get;
mod hardlink;
mod hold;
mod home;
mod home_form;
mod ids;
mod layer_store;
mod layout;
mod link;
mod lowers;
mod mask;
mod mount;
mod mount_point;
mod mount_program;
mod note_file;
mod options;
mod parent;
mod peers;
mod probe;
mod remove;
mod shown_layer;
mod stack;
mod staged;
mod status;
mod stores;

pub use driver::{DRIVER, Overlay};
pub use hardlink::{DRIVER as HARD_LINK_DRIVER, HardLinkOverlay};
pub use mount::{IdMapping, MountApi};
pub use options::OverlayTuning;
