//! What differs between two trees.

mod options;

pub use options::{CompareOptions, ContentCheck};
