//! Keeping a layer from being removed.

use std::sync::Arc;

use graphdriver_core::{ErrorKind, LayerId, Result, unmount_lazily};

use super::home::Home;

/// While it lives, nobody removes the layer, and no tree that it had is deleted.
#[derive(Debug)]
#[must_use = "dropping the guard lets the layer be removed"]
pub(super) struct Reference {
    home: Arc<Home>,
    id: LayerId,
}

impl Reference {
    /// # Errors
    /// `LayerUnknown` when there is no such layer.
    pub(super) fn take(home: &Arc<Home>, operation: &'static str, id: &LayerId) -> Result<Self> {
        let (layer, _) = home.require(operation, id)?;
        // It may be removed while its lock is waited for.
        let check = || home.require(operation, id).map(drop);
        home.references.acquire(id, &layer.merged(), false, check)?;
        Ok(Self { home: Arc::clone(home), id: id.clone() })
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        if let Err(error) = self.home.release(&self.id) {
            tracing::warn!(layer = %self.id, error = %error.report(), "give back reference");
        }
    }
}

impl Home {
    /// Gives one reference back; the last one unmounts.
    ///
    /// # Errors
    /// `InvalidArgument` when there is none; `Io`.
    pub(super) fn release(&self, id: &LayerId) -> Result<()> {
        let merged = self.layer(id).merged();
        self.references.release(id, &merged, || self.detach(id))
    }

    /// Unmounts the layer if nobody who uses it is left.
    pub(super) fn reclaim(&self, id: &LayerId) -> Result<()> {
        let merged = self.layer(id).merged();
        match self.references.reclaim(id, &merged, || self.detach(id)) {
            Err(error) if error.kind() == ErrorKind::LayerInUse => Ok(()),
            result => result.map(drop),
        }
    }

    /// The layer's own lock is held.
    fn detach(&self, id: &LayerId) -> Result<()> {
        unmount_lazily(&self.layer(id).merged())?;
        self.delete_replaced(id);
        Ok(())
    }
}
