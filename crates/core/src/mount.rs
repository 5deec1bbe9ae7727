//! A mounted layer as a guard.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::driver::{Driver, MountOptions};
use crate::error::{Error, Result};
use crate::layer_id::LayerId;

/// A reference to a mounted layer.
///
/// [`unmount`](Self::unmount) gives it back and reports; dropping gives it back and only logs. In a child made by `fork` the guard does nothing: the mount is
/// the parent's.
#[must_use = "dropping the guard unmounts the layer"]
#[derive(Debug)]
pub struct Mount {
    driver: Arc<dyn Driver>,
    id: LayerId,
    path: PathBuf,
    options: MountOptions,
    owner: u32,
    held: bool,
}

impl Mount {
    pub(crate) fn new(driver: Arc<dyn Driver>, id: &LayerId, options: &MountOptions) -> Result<Self> {
        let path = driver.get(id, options).map_err(|error| with_names(error, &*driver, id))?;
        let options = options.clone();
        Ok(Self { driver, id: id.clone(), path, options, owner: std::process::id(), held: true })
    }

    /// The root directory of the mounted layer; absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The layer that is mounted.
    pub fn layer(&self) -> &LayerId {
        &self.id
    }

    /// Gives the reference back; the last one unmounts.
    ///
    /// # Errors
    /// `Io` when the kernel refused to unmount.
    pub fn unmount(mut self) -> Result<()> {
        self.release()
    }

    fn release(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.held) || self.owner != std::process::id() {
            return Ok(());
        }
        self.driver.put(&self.id).map_err(|error| with_names(error, &*self.driver, &self.id))
    }

    /// Leaves the layer mounted when this process ends, until some process calls [`Graph::unmount`](crate::Graph::unmount) for it.
    ///
    /// # Errors
    /// `Io` when that cannot be recorded.
    pub fn keep(mut self) -> Result<PathBuf> {
        let options = MountOptions { persistent: true, ..self.options.clone() };
        self.driver.get(&self.id, &options).map_err(|error| with_names(error, &*self.driver, &self.id))?;
        self.release()?;
        Ok(self.path.clone())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = self.release() {
            tracing::warn!(error = %error.report(), "unmount");
        }
    }
}

pub(crate) fn with_names(error: Error, driver: &dyn Driver, id: &LayerId) -> Error {
    error.driver(driver.name()).layer(id).advise()
}
