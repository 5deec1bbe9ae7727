//! What a layer changes, told from the directories of the layers without mounting them.
//!
//! Possible when the comparison is with a layer below, or with nothing: then the directories above that layer are the change set. For other pairs the answer
//! is `None`.

use std::sync::Arc;

use graphdriver_archive::{self as archive, Export, ExportOptions, LayerStack};
use graphdriver_core::{Change, IdMaps, LayerDiff, LayerId, Result};

use crate::composefs;
use crate::exact;
use crate::fill;
use crate::hold::Hold;
use crate::home::Home;
use crate::lowers;

/// The change set as a tar: the archive that made the layer, while the layer is as that made it.
pub(crate) fn diff(
    home: &Arc<Home>,
    id: &LayerId,
    base: Option<&LayerId>,
    id_maps: &IdMaps,
) -> Result<Option<LayerDiff>> {
    if let Some(exact) = exact::diff(home, id, base, id_maps)? {
        return Ok(Some(exact));
    }
    let Some(above) = above(home, id, base)? else { return Ok(None) };
    let options = ExportOptions { id_maps: id_maps.clone() };
    let export = Export::layer(&above.stack, above.own, options);
    Ok(Some(LayerDiff::new(export).keeping(above.hold)))
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

/// The directories of a layer and of all below it, which stay while the layer does.
struct Above {
    stack: LayerStack,
    /// How many of them, from the uppermost on, lie above the base.
    own: usize,
    hold: Hold,
}

/// `None` when `base` is no layer below `id`.
fn above(home: &Arc<Home>, id: &LayerId, base: Option<&LayerId>) -> Result<Option<Above>> {
    home.stores.require("diff", id)?;
    let base = base.map(|base| home.stores.require("diff", base)).transpose()?;
    if let Some(reason) = home.no_native_diff() {
        tracing::info!(layer = %id, %reason, "comparing mounted layers, since native diff is off");
        return Ok(None);
    }
    let hold = Hold::take(home, "diff", id)?;
    let below = lowers::resolve(&home.stores, hold.layer())?;
    let between = match &base {
        None => Some(below.len()),
        Some(base) => below.iter().position(|lower| &lower.layer == base),
    };
    let Some(between) = between else {
        tracing::info!(layer = %id, ?base, "comparing mounted layers, since the one is not below the other");
        return Ok(None);
    };
    let own = hold.layer().parts();
    let own_count = own.len() + lowers::parts(&below[..between]).count();
    let parts: Vec<_> = own.iter().chain(lowers::parts(&below)).collect();
    if !composefs::tell_changes(&parts)? {
        tracing::info!(layer = %id, "comparing mounted layers, since the image of one has marks of its own");
        return Ok(None);
    }
    let directories = fill::open_all(parts)?;
    let stack = home.stack(directories)?.with_data_only(fill::objects(hold.layer(), &below)?);
    Ok(Some(Above { stack, own: own_count, hold }))
}
