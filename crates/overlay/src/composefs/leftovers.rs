//! What a killed process of containers/storage leaves: it mounts images at places in the layer, and unmounts them when the layer is mounted.

use std::fs;
use std::io;

use graphdriver_core::{Error, Result};

use crate::layout::{COMPOSEFS_LAYERS, LayerDir};
use crate::mount;

/// Unmounts the images that were mounted for the layer. The caller has locked it, and nobody uses it.
///
/// # Errors
/// `Io`.
pub(crate) fn unmount_leftovers(layer: &LayerDir) -> Result<()> {
    let places = layer.mounts().join(COMPOSEFS_LAYERS);
    let failed = |error| Error::io("read directory", &places, error);
    let entries = match fs::read_dir(&places) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        mount::detach(&entry.map_err(failed)?.path())?;
    }
    Ok(())
}
