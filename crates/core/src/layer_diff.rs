//! A layer's change set as a stream.

use std::fmt;
use std::io::{self, Read};

use crate::error::Result;
use crate::mount::Mount;

/// An uncompressed tar of what a layer changed, produced while it is read.
///
/// Holds the mounts that it reads from. [`finish`](Self::finish) gives them back and reports; dropping gives them back and only logs. Read errors are
/// [`io::Error`]s that carry the cause; the stream is incomplete then and must not be used.
pub struct LayerDiff {
    stream: Box<dyn Read + Send>,
    mounts: Vec<Mount>,
}

impl LayerDiff {
    /// A stream that needs no mount.
    pub fn new(stream: impl Read + Send + 'static) -> Self {
        Self { stream: Box::new(stream), mounts: Vec::new() }
    }

    /// Keeps `mount` until the stream is finished or dropped.
    #[must_use]
    pub fn holding(mut self, mount: Mount) -> Self {
        self.mounts.push(mount);
        self
    }

    /// Ends reading and gives back the mounts.
    ///
    /// # Errors
    /// The first failure of unmounting.
    pub fn finish(self) -> Result<()> {
        let Self { stream, mounts } = self;
        drop(stream);
        mounts.into_iter().map(Mount::unmount).fold(Ok(()), Result::and)
    }
}

impl Read for LayerDiff {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl fmt::Debug for LayerDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerDiff").field("mounts", &self.mounts).finish_non_exhaustive()
    }
}
