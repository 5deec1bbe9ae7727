//! Sharing the blocks of equal files between layers.

use std::path::PathBuf;
use std::sync::Arc;

use graphdriver_archive as archive;
use graphdriver_core::{DedupHash, LayerId, Result};

use crate::fill;
use crate::hold::Hold;
use crate::home::Home;
use crate::layout::LayerDir;

/// Shares what is equal in the layers' own directories; returns the bytes gained. Layers that are not ours are passed over.
///
/// # Errors
/// `LayerUnknown`; as [`archive::dedup`].
pub(crate) fn dedup(home: &Arc<Home>, layers: &[LayerId], hash: DedupHash) -> Result<u64> {
    let holds = layers.iter().map(|id| Hold::take(home, "deduplicate", id)).collect::<Result<Vec<_>>>()?;
    let directories = holds.iter().flat_map(|hold| own_directories(hold.layer()));
    Ok(archive::dedup(&fill::open_all(directories)?, hash)?)
}

/// The directories that are looked at for one layer.
///
/// # Errors
/// `LayerUnknown`.
pub(crate) fn roots(home: &Home, id: &LayerId) -> Result<Vec<PathBuf>> {
    Ok(own_directories(&home.stores.require("deduplicate", id)?))
}

fn own_directories(layer: &LayerDir) -> Vec<PathBuf> {
    if layer.is_read_only() { Vec::new() } else { layer.diffs() }
}
