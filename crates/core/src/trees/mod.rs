//! What drivers share that keep each layer as a whole tree: its root directory, its name, its files.

mod file;
mod layers_dir;
mod place;
mod root;

pub use file::open_file;
pub use layers_dir::LayersDir;
pub use place::{list_ids, make_dirs, rename_new, unless_read_only};
pub use root::{empty_again, set_label, set_mode, set_owner};
