//! Removing layers: out of sight by one rename, then deleted.

use graphdriver_core::{DeferredRemoval, Error, ErrorKind, LayerId, Result};

use crate::home::Home;

/// Takes the layer out of sight.
///
/// # Errors
/// `LayerUnknown`; `LayerInUse` while somebody holds a reference, or another layer was made on it; `Io`.
pub(crate) fn remove(home: &Home, id: &LayerId) -> Result<DeferredRemoval> {
    home.layers.require("remove", id)?;
    let temp_dir = home.temp_dirs.create()?;
    let _lock = home.lock()?;
    home.layers.require("remove", id)?;
    // Its files do not need their parent's, but who told the parent by this note would find none.
    if let Some(child) = home.child_of(id)? {
        let detail = format!("layer {child} was made on it");
        return Err(Error::new(ErrorKind::LayerInUse, "remove").layer(id).detail(detail));
    }
    let path = home.layers.layer(id);
    let take_aside = || {
        let aside = temp_dir.take_in(&path)?;
        home.quotas.end(&aside);
        Ok(aside)
    };
    home.references.while_unused(id, &path, || home.relocate(&path, take_aside))?;
    home.remove_note(id)?;
    Ok(DeferredRemoval::new(move || temp_dir.delete()))
}
