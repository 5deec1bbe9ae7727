//! Removing layers: out of sight by one rename, then deleted.

use std::sync::Arc;

use graphdriver_core::{DeferredRemoval, Error, ErrorKind, LayerId, Result};

use crate::busy;
use crate::dataset::Dataset;
use crate::get::remove_mount_point;
use crate::home::Home;

/// Takes the layer out of sight.
///
/// # Errors
/// `LayerUnknown`; `LayerInUse` while somebody holds a reference, or another layer was made on it; `Command`; `Io`.
pub(crate) fn remove(home: &Arc<Home>, id: &LayerId) -> Result<DeferredRemoval> {
    let temp_dir = home.temp_dirs.create()?;
    let aside = home.pool.parent.child(&home.temp_names.aside(&temp_dir))?;
    let target = home.mount_point(id);
    {
        let _lock = home.lock()?;
        let dataset = home.dataset(id).map_err(|_| Error::layer_unknown("remove", id))?;
        home.references.while_unused(id, &target, || {
            refuse_with_children(home, id, &dataset)?;
            home.pool.rename(&dataset, &aside).map_err(|failure| failure.during("remove").layer(id))?;
            remove_mount_point(&target);
            Ok(())
        })?;
    }
    let home = Arc::clone(home);
    Ok(DeferredRemoval::new(move || {
        // The directory says whose the dataset is, and goes after it.
        home.pool.destroy(&aside).map_err(|failure| busy::explain(&home, &aside, failure))?;
        temp_dir.delete()
    }))
}

/// # Errors
/// `LayerUnknown` when there is no such layer; `LayerInUse` when another was made on it.
fn refuse_with_children(home: &Home, id: &LayerId, dataset: &Dataset) -> Result<()> {
    let Some(clones) = home.pool.clones(dataset)? else { return Err(Error::layer_unknown("remove", id)) };
    let Some(clone) = clones.first() else { return Ok(()) };
    let child = home.pool.parent.below(clone).unwrap_or(clone);
    let what = match child.parse::<LayerId>() {
        Ok(child) => format!("layer {child} was made on it"),
        Err(_) => format!("dataset {clone} was cloned from it"),
    };
    Err(Error::new(ErrorKind::LayerInUse, "remove").layer(id).detail(what))
}
