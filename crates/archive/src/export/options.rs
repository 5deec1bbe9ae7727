//! How a layer is written as an archive.

use crate::id_map::IdMaps;

/// How trees and changes are written.
#[derive(Clone, Debug, Default)]
pub struct ExportOptions {
    /// Owners on disk are the host's; the archive gets these maps' container ids. A file whose owner has no mapping fails the export.
    pub id_maps: IdMaps,
}
