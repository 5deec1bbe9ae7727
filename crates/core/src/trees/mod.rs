//! What drivers share that keep each layer as a whole tree.
//!
//! Such a driver brings a [`TreeHome`]; [`TreePowers`] fills, compares and changes the trees. Where the trees are directories of one directory, [`LayersDir`] finds them.

mod file;
mod home;
mod layers_dir;
mod place;
mod powers;
mod process;
mod root;
mod staged;

pub use file::open_file;
pub use home::{Filling, Purpose, Reference, StagedTree, Tree, TreeHome};
pub use layers_dir::LayersDir;
pub use place::{list_ids, make_dirs, rename_new, unless_read_only};
pub use powers::TreePowers;
pub use process::{in_user_namespace, overrides_modes};
pub use root::{dress_base, set_label, set_mode, set_owner};
