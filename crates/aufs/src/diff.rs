//! What a layer changes, told from the branches without mounting them.
//!
//! Possible when the comparison is with a layer below, or with nothing: then the branches above that layer are the change set. For other pairs the answer is `None`.

use std::sync::Arc;

use graphdriver_archive::{self as archive, Export, ExportOptions, LayerStack};
use graphdriver_core::{Change, IdMaps, LayerDiff, LayerId, Result};

use crate::home::Home;
use crate::reference::Reference;

/// The change set as a tar.
pub(crate) fn diff(
    home: &Arc<Home>,
    id: &LayerId,
    base: Option<&LayerId>,
    id_maps: &IdMaps,
) -> Result<Option<LayerDiff>> {
    let Some(above) = above(home, id, base)? else { return Ok(None) };
    let export = Export::layer(&above.stack, above.own, ExportOptions { id_maps: id_maps.clone() });
    Ok(Some(LayerDiff::new(export).keeping(above.reference)))
}

/// The changed paths.
pub(crate) fn changes(home: &Arc<Home>, id: &LayerId, base: Option<&LayerId>) -> Result<Option<Vec<Change>>> {
    let Some(above) = above(home, id, base)? else { return Ok(None) };
    Ok(Some(archive::layer_changes(&above.stack, above.own)?))
}

/// The bytes of changed files.
pub(crate) fn diff_size(home: &Arc<Home>, id: &LayerId, base: Option<&LayerId>) -> Result<Option<u64>> {
    let Some(above) = above(home, id, base)? else { return Ok(None) };
    Ok(Some(archive::layer_size(&above.stack, above.own)?))
}

/// The branches of a layer, which stay while the layer does.
struct Above {
    stack: LayerStack,
    /// How many of them, from the uppermost on, lie above the base.
    own: usize,
    reference: Reference,
}

/// `None` when `base` is no layer below `id`.
fn above(home: &Arc<Home>, id: &LayerId, base: Option<&LayerId>) -> Result<Option<Above>> {
    base.map_or(Ok(()), |base| home.require("diff", base))?;
    let reference = Reference::take(home, "diff", id)?;
    let ancestors = home.ancestors("diff", id)?;
    let between = match base {
        None => Some(ancestors.len()),
        Some(base) => ancestors.iter().position(|ancestor| ancestor == base),
    };
    let Some(between) = between else {
        tracing::info!(layer = %id, ?base, "comparing mounted layers, since the one is not below the other");
        return Ok(None);
    };
    Ok(Some(Above { stack: home.stack("diff", id)?, own: between + 1, reference }))
}
