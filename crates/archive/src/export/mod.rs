//! Writing a layer tar.

mod options;

pub use options::ExportOptions;
