//! Keeping a layer from being removed.

use std::sync::Arc;

use graphdriver_core::{LayerId, Result};

use crate::home::Home;

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
        home.acquire(operation, id, false)?;
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
    /// Takes a reference to the layer.
    ///
    /// # Errors
    /// `LayerUnknown` when there is no such layer; `Io`.
    pub(crate) fn acquire(&self, operation: &'static str, id: &LayerId, persistent: bool) -> Result<()> {
        // The answer can only change from yes to no, and not while the counter runs what it is given here.
        self.layers.require(operation, id)?;
        self.references.acquire(id, &self.layers.layer(id), persistent, || self.layers.require(operation, id))
    }

    /// Gives one reference back.
    ///
    /// # Errors
    /// `InvalidArgument` when there is none; `Io`.
    pub(crate) fn release(&self, id: &LayerId) -> Result<()> {
        self.references.release(id, &self.layers.layer(id), || Ok(()))
    }

    /// Removes what processes that were killed left of their references.
    pub(crate) fn forget_killed(&self) -> Result<()> {
        for id in self.layers.list()? {
            self.references.reclaim(&id, &self.layers.layer(&id), || Ok(()))?;
        }
        Ok(())
    }
}
