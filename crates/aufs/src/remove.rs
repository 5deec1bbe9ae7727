//! Removing layers: the file by which the layer exists first, then its directories.

use graphdriver_core::{DeferredRemoval, Error, ErrorKind, LayerId, Result};
use nix::errno::Errno;

use crate::home::Home;

/// Takes the layer out of sight.
///
/// # Errors
/// `LayerUnknown`; `LayerInUse` while somebody holds a reference, or another layer lies on it; `Io`.
pub(crate) fn remove(home: &Home, id: &LayerId) -> Result<DeferredRemoval> {
    home.require("remove", id)?;
    let temp_dir = home.temp_dirs.create()?;
    let _lock = home.lock()?;
    home.require("remove", id)?;
    if let Some(child) = home.child_of(id)? {
        let detail = format!("layer {child} lies on it");
        return Err(Error::new(ErrorKind::LayerInUse, "remove").layer(id).detail(detail));
    }
    home.references.while_unused(id, &home.mount_point(id), || {
        temp_dir.take_in(&home.layer_file(id))?;
        for dir in [home.diff(id), home.mount_point(id)] {
            match temp_dir.take_in(&dir) {
                Err(error) if error.errno() == Some(Errno::ENOENT) => {}
                taken => drop(taken?),
            }
        }
        Ok(())
    })?;
    Ok(DeferredRemoval::new(move || temp_dir.delete()))
}
