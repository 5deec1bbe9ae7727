//! Keeping a layer while its files are read without a mount.

use std::sync::Arc;

use graphdriver_core::{LayerId, Result};

use crate::home::Home;
use crate::ids;
use crate::layout::LayerDir;
use crate::mount_point;

/// A reference to a layer that need not be mounted: while it lives, nobody removes the layer or fills it.
///
/// It counts like one of a mount. A mount that is given back meanwhile stays until the hold is dropped.
#[derive(Debug)]
#[must_use = "dropping the guard lets the layer be removed"]
pub(crate) struct Hold {
    home: Arc<Home>,
    layer: LayerDir,
}

impl Hold {
    /// # Errors
    /// `LayerUnknown` when there is no such layer; `Io`, `NoSpace` when the reference cannot be recorded.
    pub(crate) fn take(home: &Arc<Home>, operation: &'static str, id: &LayerId) -> Result<Self> {
        let layer = home.stores.require(operation, id)?;
        // It may have been removed while its lock was waited for.
        let check = || {
            layer.require(operation)?;
            ids::finish(&layer)
        };
        home.references.acquire(id, &layer.merged(), false, check)?;
        Ok(Self { home: Arc::clone(home), layer })
    }

    pub(crate) fn layer(&self) -> &LayerDir {
        &self.layer
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let (id, merged) = (self.layer.id(), self.layer.merged());
        if let Err(error) = self.home.references.release(id, &merged, || mount_point::detach(&self.layer)) {
            tracing::warn!(layer = %id, error = %error.report(), "give back the reference of a diff");
        }
    }
}
