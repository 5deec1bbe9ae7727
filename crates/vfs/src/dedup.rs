//! Sharing the blocks of equal files between layers.

use std::sync::Arc;

use graphdriver_archive as archive;
use graphdriver_core::{DedupHash, LayerId, Result};

use crate::home::Home;
use crate::reference::Reference;

/// Shares what is equal in the layers; returns the bytes gained. What a copy shares with its original is shared already.
///
/// # Errors
/// `LayerUnknown`; as [`archive::dedup`].
pub(crate) fn dedup(home: &Arc<Home>, layers: &[LayerId], hash: DedupHash) -> Result<u64> {
    let mut references = Vec::new();
    let mut roots = Vec::new();
    for id in layers {
        references.push(Reference::take(home, "deduplicate", id)?);
        roots.push(home.layers.open("deduplicate", id)?);
    }
    Ok(archive::dedup(&roots, hash)?)
}
