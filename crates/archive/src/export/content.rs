//! The contents of one file on their way into the archive.

use std::cmp;
use std::fs::File;
use std::io::{self, Read};

use crate::error::{Error, Result};
use crate::walk::as_path;

/// The content of the entry whose header was written last.
pub(super) struct Content {
    path: Vec<u8>,
    file: File,
    pub(super) bytes: u64,
    pub(super) remaining: u64,
    /// The file ended too early.
    shrunk: bool,
}

impl Content {
    /// The first `bytes` of `file`.
    pub(super) fn new(path: Vec<u8>, file: File, bytes: u64) -> Self {
        Self { path, file, bytes, remaining: bytes, shrunk: false }
    }

    /// Puts some of it into `buffer`.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let wanted =
            usize::try_from(self.remaining).map_or(buffer.len(), |left| cmp::min(left, buffer.len()));
        let buffer = &mut buffer[..wanted];
        if !self.shrunk {
            let bytes = self.read_file(buffer)?;
            if bytes > 0 {
                self.remaining -= bytes as u64;
                return Ok(bytes);
            }
            tracing::warn!(path = ?as_path(&self.path), missing = self.remaining, "file shrank while it was read, filled up with zeros");
            self.shrunk = true;
        }
        buffer.fill(0);
        self.remaining -= wanted as u64;
        Ok(wanted)
    }

    fn read_file(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match self.file.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read", error).path(as_path(&self.path))),
                Ok(bytes) => return Ok(bytes),
            }
        }
    }
}
