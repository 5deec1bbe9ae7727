//! Removing layers: out of sight by one rename, then deleted.

use graphdriver_core::{DeferredRemoval, Error, ErrorKind, LayerId, Result};

use super::home::Home;

/// Takes the layer out of sight.
///
/// # Errors
/// `LayerUnknown`; `LayerInUse` while somebody holds a reference, or another layer was made on it; `Io`.
pub(super) fn remove(home: &Home, id: &LayerId) -> Result<DeferredRemoval> {
    home.require("remove", id)?;
    let temp_dir = home.temp_dirs.create()?;
    let _lock = home.lock()?;
    let (layer, _) = home.require("remove", id)?;
    if let Some(child) = home.child_of(id)? {
        let detail = format!("layer {child} was made on it");
        return Err(Error::new(ErrorKind::LayerInUse, "remove").layer(id).detail(detail));
    }
    home.references.while_unused(id, &layer.merged(), || {
        home.delete_replaced(id);
        temp_dir.take_in(layer.path())
    })?;
    Ok(DeferredRemoval::new(move || temp_dir.delete()))
}
