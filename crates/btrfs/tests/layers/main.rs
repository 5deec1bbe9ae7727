//! Layers as subvolumes, each test on a btrfs of its own.

#![allow(clippy::unwrap_used, clippy::unwrap_in_result, reason = "a test fails by panicking")]

mod home;
mod nested;
mod readers;
#[path = "../../src/test_volume.rs"]
mod test_volume;
mod volume;
