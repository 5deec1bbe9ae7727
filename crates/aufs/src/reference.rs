//! Keeping a layer from being removed.

use std::sync::Arc;

use graphdriver_core::{ErrorKind, LayerId, Result};

use crate::home::Home;
use crate::unmount::unmount;

/// While it lives, nobody removes the layer.
#[derive(Debug)]
#[must_use = "dropping the guard lets the layer be removed"]
pub(crate) struct Reference {
    home: Arc<Home>,
    id: LayerId,
}

impl Reference {
    /// # Errors
    /// `LayerUnknown` when there is no such layer.
    pub(crate) fn take(home: &Arc<Home>, operation: &'static str, id: &LayerId) -> Result<Self> {
        home.require(operation, id)?;
        // It may be removed while its lock is waited for.
        home.references.acquire(id, &home.mount_point(id), false, || home.require(operation, id))?;
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
    pub(crate) fn release(&self, id: &LayerId) -> Result<()> {
        let mount_point = self.mount_point(id);
        self.references.release(id, &mount_point, || unmount(&mount_point))
    }

    /// Unmounts the layer if nobody who uses it is left.
    pub(crate) fn reclaim(&self, id: &LayerId) -> Result<()> {
        let mount_point = self.mount_point(id);
        match self.references.reclaim(id, &mount_point, || unmount(&mount_point)) {
            Err(error) if error.kind() == ErrorKind::LayerInUse => Ok(()),
            result => result.map(drop),
        }
    }
}
