//! Keeping a layer from being removed.

use std::sync::Arc;

use graphdriver_core::{LayerId, Result};

use crate::get;
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
        get::acquire(home, operation, id, false, || Ok(()))?;
        Ok(Self { home: Arc::clone(home), id: id.clone() })
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        if let Err(error) = get::release(&self.home, &self.id) {
            tracing::warn!(layer = %self.id, error = %error.report(), "give back reference");
        }
    }
}
