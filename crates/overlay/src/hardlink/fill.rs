//! Filling a layer that exists.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use graphdriver_archive::whiteout::OverlayXattrs;
use graphdriver_archive::{Applied, ApplyOptions, RootDir, WhiteoutMode};
use graphdriver_core::{CreateOptions, Error, ErrorKind, LayerApplyOptions, LayerId, Result};

use super::draft::Draft;
use super::home::Home;
use super::layer::{Form, LayerDir};
use super::tree::{dress, exchange};
use crate::create::DirectoryLook;

/// Makes a tree of the layer, which nobody has written to yet: names for its parent's files, and the archive unpacked among them. `Ok(None)`, nothing having been read, for a layer that is a tree already, is
/// mounted, was written to, or is on one that is no tree.
///
/// # Errors
/// `LayerUnknown`; `LayerInUse` when it was mounted or written to meanwhile; as `archive::apply`. The layer is as it was then.
pub(super) fn apply(
    home: &Arc<Home>,
    id: &LayerId,
    tar: &mut dyn Read,
    options: &LayerApplyOptions,
) -> Result<Option<Applied>> {
    let (layer, form) = home.require("apply to", id)?;
    let merged = layer.merged();
    if form == Form::Tree || home.references.is_mounted(&merged)? || !is_empty(&layer.upper())? {
        return Ok(None);
    }
    let parent = home.parent("apply to", id)?;
    if parent != layer.lower_id()? {
        return Ok(None);
    }
    let mut draft = Draft::tree(home, &CreateOptions { parent, ..CreateOptions::default() })?;
    let look = DirectoryLook::of(&layer.upper())?;
    dress(&RootDir::open(draft.layer().root())?, look, false)?;
    let applied = draft.fill(tar, options)?;
    home.references.while_unused(id, &merged, || {
        require_untouched(home, id, &layer)?;
        exchange(draft.layer().path(), layer.path())
    })?;
    Ok(Some(applied))
}

/// How archives become trees here.
pub(super) fn apply_options(home: &Home, options: &LayerApplyOptions) -> ApplyOptions {
    ApplyOptions {
        whiteouts: WhiteoutMode::Execute,
        id_maps: options.id_maps.clone(),
        ignore_chown_errors: options.ignore_chown_errors,
        force_mask: options.force_mask,
        in_user_namespace: home.xattrs() == OverlayXattrs::User,
        digest: options.digest,
        ..ApplyOptions::default()
    }
}

/// It may have been removed, filled or written to while its archive was unpacked.
fn require_untouched(home: &Home, id: &LayerId, layer: &LayerDir) -> Result<()> {
    let (_, form) = home.require("apply to", id)?;
    if form == Form::Upper && is_empty(&layer.upper())? {
        return Ok(());
    }
    Err(Error::new(ErrorKind::LayerInUse, "apply to")
        .layer(id)
        .path(layer.path())
        .detail("something was written to the layer while the archive was unpacked"))
}

fn is_empty(dir: &Path) -> Result<bool> {
    let mut entries = fs::read_dir(dir).map_err(|error| Error::io("read directory", dir, error))?;
    Ok(entries.next().is_none())
}
