//! Which layers are there.

use std::fs;
use std::io;

use graphdriver_core::{Error, LayerId, Result};

use crate::layout::Layout;

/// All layers, sorted. What else lies in a home is passed over: the driver's own files, and directories without a `diff`, which a killed
/// process of another program may have left.
pub(crate) fn list(layout: &Layout) -> Result<Vec<LayerId>> {
    let failed = |error| Error::io("read directory", layout.home(), error);
    let mut layers = Vec::new();
    for entry in fs::read_dir(layout.home()).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if exists(layout, &id)? {
            layers.push(id);
        }
    }
    layers.sort_unstable();
    Ok(layers)
}

/// Whether the layer exists: has a `diff` directory, which is the first thing that is seen of a layer and the last that vanishes.
pub(crate) fn exists(layout: &Layout, id: &LayerId) -> Result<bool> {
    let diff = layout.diff(id);
    match fs::metadata(&diff) {
        Ok(metadata) => Ok(metadata.is_dir()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(false)
        }
        Err(error) => Err(Error::io("stat", diff, error)),
    }
}

/// # Errors
/// `LayerUnknown` when there is no such layer.
pub(crate) fn require(layout: &Layout, operation: &'static str, id: &LayerId) -> Result<()> {
    if exists(layout, id)? { Ok(()) } else { Err(Error::layer_unknown(operation, id)) }
}

/// # Errors
/// `LayerExists` when there is such a layer.
pub(crate) fn require_absent(layout: &Layout, id: &LayerId) -> Result<()> {
    if exists(layout, id)? { Err(Error::layer_exists("create", id)) } else { Ok(()) }
}
