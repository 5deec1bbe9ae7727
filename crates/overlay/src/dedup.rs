//! Sharing the blocks of equal files between layers.

use std::path::PathBuf;
use std::sync::Arc;

use graphdriver_archive::{self as archive, RootDir};
use graphdriver_core::{DedupHash, LayerId, Result};

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
    let roots = directories.map(|directory| Ok(RootDir::open(directory)?)).collect::<Result<Vec<_>>>()?;
    Ok(archive::dedup(&roots, hash)?)
}

/// The directories that are looked at for one layer.
///
/// # Errors
/// `LayerUnknown`.
pub(crate) fn roots(home: &Home, id: &LayerId) -> Result<Vec<PathBuf>> {
    Ok(own_directories(&home.stores.require("deduplicate", id)?))
}

fn own_directories(layer: &LayerDir) -> Vec<PathBuf> {
    // Contents of an image's files are shared like any others.
    if layer.is_foreign() || layer.is_lent() { Vec::new() } else { layer.diffs() }
}
