//! Keeping a layer while its files are read without a mount.

use std::sync::Arc;

use graphdriver_core::{LayerId, Result};

use crate::home::Home;
use crate::layers;
use crate::mount;

/// A reference to a layer that need not be mounted: while it lives, nobody removes the layer or fills it.
///
/// It counts like one of a mount. A mount that is given back meanwhile stays until the hold is dropped.
#[derive(Debug)]
#[must_use = "dropping the guard lets the layer be removed"]
pub(crate) struct Hold {
    home: Arc<Home>,
    id: LayerId,
}

impl Hold {
    /// # Errors
    /// `LayerUnknown` when there is no such layer; `Io`, `NoSpace` when the reference cannot be recorded.
    pub(crate) fn take(home: &Arc<Home>, operation: &'static str, id: &LayerId) -> Result<Self> {
        layers::require(&home.layout, operation, id)?;
        // It may have been removed while its lock was waited for.
        let check = || layers::require(&home.layout, operation, id);
        home.references.acquire(id, &home.layout.merged(id), false, check)?;
        Ok(Self { home: Arc::clone(home), id: id.clone() })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let merged = self.home.layout.merged(&self.id);
        if let Err(error) = self.home.references.release(&self.id, &merged, || mount::detach(&merged)) {
            tracing::warn!(layer = %self.id, error = %error.report(), "give back the reference of a diff");
        }
    }
}
