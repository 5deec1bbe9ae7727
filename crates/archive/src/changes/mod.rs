//! Finding what differs between a layer and what lies below it.

mod blocks;
mod compare;
mod layered;
mod level;
mod linked;
mod names;
mod options;
mod parents;
mod size;
mod suspects;
mod trees;

pub use layered::{layer_changes, layer_size};
pub use names::names_of;
pub use options::{CompareOptions, ContentCheck};
pub use parents::with_parents;
pub use size::changes_size;
pub use suspects::{SuspectPlace, Suspects};
pub use trees::{changes, changes_among};
