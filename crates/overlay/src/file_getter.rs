//! Reading a file of a layer without mounting it.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use graphdriver_core::{LayerId, Result};

use crate::fill;
use crate::hold::Hold;
use crate::home::Home;
use crate::lowers;

/// Opens the file `path` of the layer for reading, as a mount would show it.
///
/// # Errors
/// `LayerUnknown`; as [`LayerStack::open_file`].
pub(crate) fn open_file(home: &Arc<Home>, id: &LayerId, path: &Path) -> Result<File> {
    let hold = Hold::take(home, "open file of", id)?;
    let layer = hold.layer();
    let below = lowers::resolve(&home.stores, layer)?;
    let directories = [fill::open_all(&layer.parts())?, fill::open_all(lowers::parts(&below))?].concat();
    let stack = home.stack(directories)?.with_data_only(fill::objects(layer, &below)?);
    Ok(stack.open_file(path)?)
}
