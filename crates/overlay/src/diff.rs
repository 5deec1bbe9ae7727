//! What a layer changes, told from its own directory.
//!
//! Possible when the comparison is with the layer's parent: then the upper directory is the change set. For other pairs, and for layers in which other
//! programs left what only a mount resolves (renamed directories as `redirect_dir` stores them), the answer is `None`.

use std::sync::Arc;

use graphdriver_archive::whiteout::OverlayXattrs;
use graphdriver_archive::{self as archive, Export, ExportOptions, RootDir};
use graphdriver_core::{Change, IdMaps, LayerDiff, LayerId, Result};

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
    let Some(stack) = stack(home, id, base)? else { return Ok(None) };
    let options = ExportOptions { id_maps: id_maps.clone() };
    if home.mount_program.is_some() {
        let export = Export::fuse_overlay_upper(&stack.upper, stack.lowers, options)?;
        return Ok(Some(LayerDiff::new(export).keeping(stack.hold)));
    }
    let xattrs = home.support.dialect.xattrs;
    // Found out first, because the archive cannot be begun anew. Mounts of user namespaces leave nothing of the kind.
    if xattrs == OverlayXattrs::Trusted && !archive::overlay_upper_is_plain(&stack.upper, xattrs)? {
        tracing::info!(layer = %id, "comparing mounted layers, because of renamed directories or changed metadata");
        return Ok(None);
    }
    let export = Export::overlay_upper(&stack.upper, stack.lowers, xattrs, options)?;
    Ok(Some(LayerDiff::new(export).keeping(stack.hold)))
}

/// The changed paths.
pub(crate) fn changes(home: &Arc<Home>, id: &LayerId, base: Option<&LayerId>) -> Result<Option<Vec<Change>>> {
    let Some(stack) = stack(home, id, base)? else { return Ok(None) };
    if home.mount_program.is_some() {
        return Ok(Some(archive::fuse_overlay_changes(&stack.upper, &stack.lowers)?));
    }
    match archive::overlay_changes(&stack.upper, &stack.lowers, home.support.dialect.xattrs) {
        Err(error) if error.kind() == archive::ErrorKind::NotSupported => {
            tracing::info!(layer = %id, %error, "comparing mounted layers");
            Ok(None)
        }
        changes => Ok(Some(changes?)),
    }
}

/// The bytes of changed files.
pub(crate) fn diff_size(home: &Arc<Home>, id: &LayerId, base: Option<&LayerId>) -> Result<Option<u64>> {
    let Some(stack) = stack(home, id, base)? else { return Ok(None) };
    Ok(Some(archive::disk_usage(&stack.upper)?.bytes))
}

/// A layer's own directory and those below it, which stay while the layer does.
struct Stack {
    upper: RootDir,
    lowers: Vec<RootDir>,
    hold: Hold,
}

/// `None` unless `base` is the layer directly below `id`, or there is neither.
fn stack(home: &Arc<Home>, id: &LayerId, base: Option<&LayerId>) -> Result<Option<Stack>> {
    home.stores.require("diff", id)?;
    let base = base.map(|base| home.stores.require("diff", base)).transpose()?;
    if !home.native_diff {
        return Ok(None);
    }
    let hold = Hold::take(home, "diff", id)?;
    let layer = hold.layer();
    let below = lowers::resolve(&home.stores, layer)?;
    if below.first().map(|lower| &lower.layer) != base.as_ref() || layer.diffs().len() > 1 {
        return Ok(None);
    }
    let lowers = fill::open_all(lowers::directories(&below))?;
    Ok(Some(Stack { upper: RootDir::open(layer.diff())?, lowers, hold }))
}
