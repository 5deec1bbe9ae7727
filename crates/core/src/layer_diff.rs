//! A layer's change set as a stream.

use std::any::Any;
use std::fmt;
use std::io::{self, Read};

use crate::error::{Error, Result};
use crate::layer_id::LayerId;
use crate::mount::Mount;

/// An uncompressed tar of what a layer changed, produced while it is read.
///
/// Holds the mounts that it reads from. [`finish`](Self::finish) gives them back and reports; dropping gives them back and only logs. Read errors are
/// [`io::Error`]s that carry the cause, an [`Error`] that names the layer if the stream is from [`Graph::diff`](crate::Graph::diff); the stream is incomplete then and must not be used.
pub struct LayerDiff {
    stream: Box<dyn Read + Send>,
    /// Driver and layer, for errors.
    of: Option<(String, LayerId)>,
    mounts: Vec<Mount>,
    /// Dropped after the stream.
    guards: Vec<Box<dyn Any + Send>>,
}

impl LayerDiff {
    /// A stream that needs no mount.
    pub fn new(stream: impl Read + Send + 'static) -> Self {
        Self { stream: Box::new(stream), of: None, mounts: Vec::new(), guards: Vec::new() }
    }

    /// Names driver and layer in errors.
    pub(crate) fn of(self, driver: &str, layer: &LayerId) -> Self {
        Self { of: Some((driver.to_owned(), layer.clone())), ..self }
    }

    /// Keeps `mount` until the stream is finished or dropped.
    #[must_use]
    pub fn holding(mut self, mount: Mount) -> Self {
        self.mounts.push(mount);
        self
    }

    /// Keeps `guard` until the stream is finished or dropped: what lets the layer be removed once it is dropped. Files that vanish are left out of a stream, so that
    /// without the layer it would be short and look whole.
    #[must_use]
    pub fn keeping(mut self, guard: impl Send + 'static) -> Self {
        self.guards.push(Box::new(guard));
        self
    }

    /// Ends reading and gives back the mounts.
    ///
    /// # Errors
    /// The first failure of unmounting.
    pub fn finish(self) -> Result<()> {
        let Self { stream, mounts, guards, .. } = self;
        drop(stream);
        drop(guards);
        mounts.into_iter().map(Mount::unmount).fold(Ok(()), Result::and)
    }
}

impl Read for LayerDiff {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (error, (driver, layer)) = match (self.stream.read(buffer), &self.of) {
            (Err(error), Some(of)) if error.kind() != io::ErrorKind::Interrupted => (error, of),
            (result, _) => return result,
        };
        let kind = graphdriver_archive::ErrorKind::of_io(&error).into();
        Err(Error::new(kind, "read diff of").driver(driver).layer(layer).source(error).into())
    }
}

impl fmt::Debug for LayerDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerDiff").field("mounts", &self.mounts).finish_non_exhaustive()
    }
}
