//! Filling a directory from a layer tar.

mod options;

pub use options::{Applied, ApplyOptions, WhiteoutMode};
