//! The lines of a record, read one by one.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};

use flate2::bufread::MultiGzDecoder;

use super::line::Line;
use super::note::Note;
use crate::error::{Error, ErrorKind, Result};

/// Longest line. Go's packer writes the headers of one entry into one, which may be three extension headers of 1 MiB.
const MAX_LINE_BYTES: u64 = 16 << 20;

/// Reads a record from its beginning.
pub(super) struct Lines {
    source: BufReader<MultiGzDecoder<BufReader<File>>>,
    text: Vec<u8>,
    position: u64,
}

impl Lines {
    /// # Errors
    /// The kind of the failure to read.
    pub(super) fn new(mut file: File) -> Result<Self> {
        file.rewind().map_err(|error| Error::io("lseek", error))?;
        let gzip = MultiGzDecoder::new(BufReader::new(file));
        let source = BufReader::with_capacity(64 << 10, gzip);
        Ok(Self { source, text: Vec::new(), position: 0 })
    }

    /// The note of whoever wrote the record.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub(super) fn note(&mut self) -> Result<Option<Note>> {
        self.source.fill_buf().map_err(unreadable)?;
        let header = self.source.get_ref().header();
        Ok(header.and_then(flate2::GzHeader::extra).and_then(Note::from_extra))
    }

    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// `InvalidArchive` for what is no record; the kind of the failure to read.
    pub(super) fn next(&mut self) -> Result<Option<Line>> {
        self.text.clear();
        let mut limited = (&mut self.source).take(MAX_LINE_BYTES);
        limited.read_until(b'\n', &mut self.text).map_err(unreadable)?;
        if self.text.is_empty() {
            return Ok(None);
        }
        if self.text.len() as u64 == MAX_LINE_BYTES {
            return Err(invalid(format!("line {} is longer than {MAX_LINE_BYTES} bytes", self.position)));
        }
        let line = Line::parse(&self.text, self.position)
            .map_err(|error| invalid(format!("line {}: {error}", self.position)))?;
        self.position += 1;
        Ok(Some(line))
    }
}

/// A malformed record.
pub(super) fn invalid(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArchive, "read tar-split record").detail(detail)
}

/// A failure to read, or what is no gzip.
pub(super) fn unreadable(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            invalid("not gzip, or cut off").source(error)
        }
        _ => Error::io("read tar-split record", error),
    }
}
