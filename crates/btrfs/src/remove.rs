//! Removing layers: out of sight by one rename, then destroyed with all subvolumes inside.

use graphdriver_core::{DeferredRemoval, Error, ErrorKind, LayerId, Result};

use crate::get::unmount_for_readers;
use crate::home::Home;
use crate::subvolume::identity;

/// Takes the layer out of sight.
///
/// # Errors
/// `LayerUnknown`; `LayerInUse` while somebody holds a reference, or another layer was made on it; `Io`.
pub(crate) fn remove(home: &Home, id: &LayerId) -> Result<DeferredRemoval> {
    home.layers.require("remove", id)?;
    let temp_dir = home.temp_dirs.create()?;
    let _lock = home.lock()?;
    // A snapshot does not need what it was made of, but who told the parent by its identity would find none.
    if let Some(child) = child_of(home, id)? {
        let detail = format!("layer {child} was made on it");
        return Err(Error::new(ErrorKind::LayerInUse, "remove").layer(id).detail(detail));
    }
    let path = home.layers.layer(id);
    home.references.while_unused(id, &path, || {
        unmount_for_readers(home, id)?;
        temp_dir.take_in(&path)
    })?;
    home.quotas.forget(id)?;
    Ok(DeferredRemoval::new(move || temp_dir.delete()))
}

fn child_of(home: &Home, id: &LayerId) -> Result<Option<LayerId>> {
    match home.layers.with_layer("remove", id, identity)? {
        Some(info) => home.child_of(info.uuid),
        None => Ok(None),
    }
}
