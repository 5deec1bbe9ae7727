//! Removing layers: out of sight by one rename, then deleted.

use std::fs;

use graphdriver_core::{DeferredRemoval, Error, ErrorKind, LayerId, Result};

use crate::home::Home;
use crate::layers;
use crate::layout::Layout;
use crate::link::{self, LinkId};
use crate::lowers;

/// Takes the layer out of sight. A directory of its name that is no complete layer goes too.
///
/// # Errors
/// `LayerUnknown`; `LayerInUse` while it is mounted, or another layer lies on it; `Io`.
pub(crate) fn remove(home: &Home, id: &LayerId) -> Result<DeferredRemoval> {
    let layout = &home.layout;
    let temp_dir = home.temp_dirs.create()?;
    let _lock = home.lock()?;
    let is_dir = fs::symlink_metadata(layout.layer(id)).is_ok_and(|metadata| metadata.is_dir());
    if !is_dir {
        return Err(Error::layer_unknown("remove", id));
    }
    let link = link::find(layout, id)?;
    if let Some(child) = child_of(layout, id, link.as_ref())? {
        let detail = format!("layer {child} lies on it");
        return Err(Error::new(ErrorKind::LayerInUse, "remove").layer(id).detail(detail));
    }
    home.references.while_unused(id, &layout.merged(id), || temp_dir.take_in(&layout.layer(id)))?;
    if let Some(link) = link {
        link::remove(layout, &link)?;
    }
    Ok(DeferredRemoval::new(move || temp_dir.delete()))
}

/// A layer whose direct parent is `id`; the layers on that one name it too, but are not needed to tell.
fn child_of(layout: &Layout, id: &LayerId, link: Option<&LinkId>) -> Result<Option<LayerId>> {
    for other in layers::list(layout)? {
        let parent = lowers::first(layout, &other)?;
        if parent.is_some_and(|parent| parent.names(id, link)) {
            return Ok(Some(other));
        }
    }
    Ok(None)
}
