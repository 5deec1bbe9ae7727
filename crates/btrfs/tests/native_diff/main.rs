//! Changes found in the file system's trees are those that comparing both trees in full finds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cases;
mod edits;
mod random;
#[path = "../../src/test_volume.rs"]
mod test_volume;
mod volume;
