//! The end that has no driver of its own.

mod address;
mod caller;
mod diff;
mod driver;
mod options;
mod upload;

pub use address::{Address, SEARCHED_DIRS, SOCKET_DIR, find_plugin};
pub use driver::{DRIVER, PluginDriver};
pub use options::PluginOptions;
