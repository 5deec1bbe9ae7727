//! The entries that a record's segments describe.

use std::fs::File;
use std::sync::Arc;

use super::line::Line;
use super::lines::{Lines, invalid};
use crate::error::{Error, ErrorKind, Result};
use crate::tar::buffer::Pool;
use crate::tar::header::{BLOCK_BYTES, Header};
use crate::tar::read::{Entry, Reader};

/// Reads entry after entry. Every segment but the last ones, and those with data of sparse files, holds the padding of the contents before it and the headers of one entry.
pub(super) struct Headers {
    lines: Lines,
    pool: Arc<Pool>,
    /// The next line, where it was read already.
    next: Option<Line>,
    /// What comes before the next headers: padding, and data of a sparse file with its own, which is in segments.
    skip: u64,
}

/// An entry, with the checksum of its contents if it has any.
pub(super) struct Described {
    pub(super) entry: Entry,
    pub(super) crc: Option<u64>,
}

impl Headers {
    pub(super) fn new(file: File) -> Result<Self> {
        Ok(Self { lines: Lines::new(file)?, pool: Pool::new(1), next: None, skip: 0 })
    }

    /// The next entry; `None` at the end of the archive.
    ///
    /// # Errors
    /// `InvalidArchive` for what is no record of an archive; the kind of the failure to read.
    pub(super) fn next(&mut self) -> Result<Option<Described>> {
        loop {
            match self.line()? {
                Some(Line::Segment(segment)) => {
                    let skip = usize::try_from(self.skip).unwrap_or(usize::MAX).min(segment.len());
                    self.skip -= skip as u64;
                    let bytes = &segment[skip..];
                    if bytes.is_empty() {
                        continue;
                    }
                    match global_header_bytes(bytes) {
                        Some(data) => self.skip = padding(data),
                        None => return self.entry(bytes),
                    }
                }
                // Of a global header.
                Some(Line::File { bytes: 0, .. }) => {}
                Some(Line::File { .. }) => return Err(invalid("contents without a header")),
                None => return Ok(None),
            }
        }
    }

    /// The entry whose headers are `bytes`.
    fn entry(&mut self, mut bytes: &[u8]) -> Result<Option<Described>> {
        let starved = || Err(Error::new(ErrorKind::Io, "take buffer"));
        let mut reader = Reader::new(&mut bytes, Arc::clone(&self.pool), &starved);
        let Some(entry) = reader.next_entry()? else { return Ok(None) };
        let data = reader.data_left();
        drop(reader);
        self.skip = padding(data);
        let crc = match self.line()? {
            other if entry.sparse.is_some() => {
                self.skip += data;
                if !matches!(other, Some(Line::File { bytes: 0, .. })) {
                    self.next = other;
                }
                None
            }
            Some(Line::File { bytes, crc, .. }) if bytes == data => (bytes > 0).then_some(crc),
            Some(Line::File { .. }) => {
                return Err(invalid("contents of another size than their header says"));
            }
            other if data == 0 => {
                self.next = other;
                None
            }
            _ => return Err(invalid("a header without its contents")),
        };
        Ok(Some(Described { entry, crc }))
    }

    fn line(&mut self) -> Result<Option<Line>> {
        match self.next.take() {
            None => self.lines.next(),
            line => Ok(line),
        }
    }
}

/// The size of a global header's data, which is in no entry's segment and has its padding in the next one.
fn global_header_bytes(bytes: &[u8]) -> Option<u64> {
    let header = Header::parse(bytes.first_chunk()?).ok()?;
    (header.typeflag == b'g').then_some(header.size)
}

fn padding(data: u64) -> u64 {
    data.next_multiple_of(BLOCK_BYTES as u64) - data
}
