//! Finding what differs between a layer and what lies below it.

mod compare;
mod layered;
mod linked;
mod options;
mod parents;
mod size;
mod trees;

pub use layered::{layer_changes, layer_size};
pub use options::{CompareOptions, ContentCheck};
pub use size::changes_size;
pub use trees::changes;
