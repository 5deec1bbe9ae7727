//! Entry after entry of a tar stream.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use super::buffer::{BUFFER_BYTES, Buffer, Pool, Slice};
use super::extended::{self, Extended, ExtendedError};
use super::header::{self, BLOCK_BYTES, Header, HeaderError};
use super::number::Timestamp;
use super::sparse::{BlockMap, Pairs, Segment, SparseMap};
use crate::error::{Error, ErrorKind, Result};
use crate::id_map::Owner;
use crate::tar_split::record::Mark;
use crate::tar_split::tape::Tape;
use crate::xattrs::Xattr;

/// Longest data of an extension header, as in Go's `archive/tar`.
const MAX_EXTENSION_BYTES: u64 = 1 << 20;

/// What kind of file an entry makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    Regular,
    Link,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// One entry, with everything that its header and extension headers say.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) kind: EntryKind,
    /// As in the archive: may be absolute, have `..`, end in a slash.
    pub(crate) name: Vec<u8>,
    pub(crate) link: Vec<u8>,
    /// Permission, set-id and sticky bits.
    pub(crate) mode: u32,
    pub(crate) owner: Owner,
    pub(crate) mtime: Timestamp,
    pub(crate) atime: Option<Timestamp>,
    pub(crate) device: (u32, u32),
    /// As the header says; the whole size of a sparse file. Not 0 for every entry without data.
    pub(crate) size: u64,
    pub(crate) xattrs: Vec<Xattr>,
    pub(crate) sparse: Option<SparseMap>,
}

/// Reads a tar stream: v7, ustar, PAX and GNU headers, all sparse forms.
///
/// Global PAX headers (`g`) are passed over, as Go's `archive/tar` users do. Entries that have no data by their type (links, devices, directories, fifos)
/// have none whatever their size field says, which again is what Go does; programs disagree here, and an archive must not mean one thing to the
/// program that checks it and another to this one.
///
/// The stream ends with two zero blocks, or one at the very end. One that stops elsewhere is truncated, except that an empty one has no entries.
pub(crate) struct Reader<'a> {
    source: &'a mut dyn Read,
    pool: Arc<Pool>,
    /// Called when all buffers are lent; returns when one may have been given back.
    starved: &'a dyn Fn() -> Result<()>,
    buffer: Option<Arc<Buffer>>,
    /// Where in the buffer the next unread byte is, and where its content ends.
    at: usize,
    end: usize,
    /// Bytes of the stream before the next unread one.
    position: u64,
    /// Bytes of the current entry's data not read yet, and of the padding after it.
    data_left: u64,
    padding: u64,
    /// Sees all that is read.
    tape: Option<&'a mut Tape>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(
        source: &'a mut dyn Read,
        pool: Arc<Pool>,
        starved: &'a dyn Fn() -> Result<()>,
    ) -> Self {
        Self {
            source,
            pool,
            starved,
            buffer: None,
            at: 0,
            end: 0,
            position: 0,
            data_left: 0,
            padding: 0,
            tape: None,
        }
    }

    /// Shows `tape` all that is read, until the stream ends.
    pub(crate) fn taped(mut self, tape: Option<&'a mut Tape>) -> Self {
        self.tape = tape;
        self
    }

    /// Passes over what is left of the current entry and reads the next; `None` at the end of the archive.
    ///
    /// # Errors
    /// `InvalidArchive` with the place in the stream; the kind of the failure to read.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>> {
        let mut extended = Extended::default();
        let (mut long_name, mut long_link) = (None, None);
        let mut extensions = false;
        loop {
            self.skip_data()?;
            let start = self.position;
            let Some(block) = self.header_block()? else {
                if extensions {
                    return Err(self.invalid("the archive ends after an extension header"));
                }
                self.mark(|at| Mark::End { at });
                return Ok(None);
            };
            let header = Header::parse(&block).map_err(|error| invalid_at(start, &error))?;
            self.set_data(header.size)?;
            extensions = true;
            match header.typeflag {
                b'x' => {
                    let data = self.extension_data()?;
                    extended = Extended::parse(&data).map_err(|error| invalid_at(start, &error))?;
                }
                b'L' | b'K' => {
                    let data = self.extension_data()?;
                    let name = extended::gnu_long_name(&data).map_err(|error| invalid_at(start, &error))?;
                    if header.typeflag == b'L' { long_name = Some(name) } else { long_link = Some(name) }
                }
                b'g' => {
                    extensions = false;
                    // Up to its padding, as records have it.
                    while self.data(u64::MAX)?.is_some() {}
                    self.mark(|at| Mark::Entry { at, name: header.name, data: 0, is_sparse: false });
                }
                _ => {
                    extended.path = long_name.or(extended.path);
                    extended.linkpath = long_link.or(extended.linkpath);
                    let entry = self.entry(&block, header, extended, start)?;
                    let data = self.data_left;
                    self.mark(|at| {
                        let is_sparse = entry.sparse.is_some();
                        Mark::Entry { at, name: entry.name.clone(), data, is_sparse }
                    });
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// The next part of the current entry's data, at most `limit` bytes; `None` at its end.
    ///
    /// # Errors
    /// `InvalidArchive` when the stream ends first; the kind of the failure to read.
    pub(crate) fn data(&mut self, limit: u64) -> Result<Option<Slice>> {
        let wanted = self.data_left.min(limit);
        if wanted == 0 {
            return Ok(None);
        }
        if self.at == self.end && !self.fill()? {
            return Err(self.truncated());
        }
        let Some(buffer) = &self.buffer else { return Err(self.truncated()) };
        let bytes = usize::try_from(wanted).map_or(usize::MAX, |wanted| wanted).min(self.end - self.at);
        let slice = Slice::new(Arc::clone(buffer), self.at..self.at + bytes);
        self.advance(bytes);
        self.data_left -= bytes as u64;
        Ok(Some(slice))
    }

    /// Bytes of the current entry's data not read yet.
    pub(crate) fn data_left(&self) -> u64 {
        self.data_left
    }

    /// Reads the stream to its end and forgets what it says, so that whoever digests it on the way sees all.
    ///
    /// # Errors
    /// The kind of the failure to read.
    pub(crate) fn drain(&mut self) -> Result<()> {
        while self.fill()? {}
        Ok(())
    }

    fn entry(
        &mut self,
        block: &[u8; BLOCK_BYTES],
        header: Header,
        mut extended: Extended,
        start: u64,
    ) -> Result<Entry> {
        let mut name = extended.path.take().unwrap_or(header.name);
        let kind = kind_of(header.typeflag, &name).ok_or_else(|| {
            self.invalid(&format!("unknown type {:?} of an entry", char::from(header.typeflag)))
                .path(OsStr::from_bytes(&name))
        })?;
        let mut size = extended.size.unwrap_or(header.size);
        self.set_data(if kind == EntryKind::Regular { size } else { 0 })?;
        let mut sparse = None;
        if kind == EntryKind::Regular {
            let failed = |error: ExtendedError| invalid_at(start, &error).path(OsStr::from_bytes(&name));
            let found = match extended.take_sparse().map_err(failed)? {
                Some(pax) => {
                    size = pax.real_size.unwrap_or(size);
                    let map = self.pax_map(pax.map, &name)?;
                    name = pax.name.unwrap_or(name);
                    Some(map)
                }
                None if header.typeflag == b'S' => {
                    let map;
                    (map, size) = self.gnu_map(block, &name)?;
                    Some(map)
                }
                None => None,
            };
            sparse = found.map(|map| self.checked_map(map, size, &name)).transpose()?;
        }
        let id = |number: i64, what: &str| {
            valid_id(number).ok_or_else(|| {
                Error::invalid_archive(format!("{number} is not a {what} id")).path(OsStr::from_bytes(&name))
            })
        };
        let owner = Owner {
            uid: id(extended.uid.unwrap_or(header.uid), "user")?,
            gid: id(extended.gid.unwrap_or(header.gid), "group")?,
        };
        let seconds = |seconds| Timestamp { seconds, nanoseconds: 0 };
        Ok(Entry {
            kind,
            owner,
            name,
            link: extended.linkpath.unwrap_or(header.link),
            mode: header.mode,
            mtime: extended.mtime.unwrap_or(seconds(header.mtime)),
            atime: extended.atime.or(header.atime.map(seconds)),
            device: header.device,
            size,
            xattrs: extended.xattrs,
            sparse,
        })
    }

    /// The map of a PAX sparse file, which for format 1.0 stands before its data.
    fn pax_map(&mut self, map: Option<Vec<Segment>>, name: &[u8]) -> Result<Vec<Segment>> {
        if let Some(map) = map {
            return Ok(map);
        }
        let mut map = BlockMap::default();
        loop {
            if self.data_left < BLOCK_BYTES as u64 {
                return Err(self
                    .invalid("the map of a sparse file does not end")
                    .path(OsStr::from_bytes(name)));
            }
            let block = self.block()?.ok_or_else(|| self.truncated())?;
            self.data_left -= BLOCK_BYTES as u64;
            let complete = map
                .push_block(&block)
                .map_err(|error| self.invalid(&error.to_string()).path(OsStr::from_bytes(name)))?;
            if complete {
                return map
                    .finish()
                    .map_err(|error| self.invalid(&error.to_string()).path(OsStr::from_bytes(name)));
            }
        }
    }

    /// The map of an old GNU sparse file, and the file's size.
    fn gnu_map(&mut self, block: &[u8; BLOCK_BYTES], name: &[u8]) -> Result<(Vec<Segment>, u64)> {
        let failed =
            |error: HeaderError| Error::invalid_archive(error.to_string()).path(OsStr::from_bytes(name));
        let mut pairs = Pairs::default();
        let (size, mut more) = header::gnu_sparse(block, &mut pairs).map_err(failed)?;
        while more {
            // These blocks stand between header and data and are not counted as data.
            let block = self.block()?.ok_or_else(|| self.truncated())?;
            more = header::gnu_sparse_extension(&block, &mut pairs).map_err(failed)?;
        }
        let map = pairs.finish().map_err(|error| failed(error.into()))?;
        Ok((map, size))
    }

    fn checked_map(&self, segments: Vec<Segment>, size: u64, name: &[u8]) -> Result<SparseMap> {
        let map = SparseMap::new(segments, size)
            .map_err(|error| self.invalid(&error.to_string()).path(OsStr::from_bytes(name)))?;
        if map.data_bytes() == self.data_left {
            return Ok(map);
        }
        Err(self.invalid("the map of a sparse file does not match its data").path(OsStr::from_bytes(name)))
    }

    fn extension_data(&mut self) -> Result<Vec<u8>> {
        if self.data_left > MAX_EXTENSION_BYTES {
            return Err(self.invalid(&format!("an extension header has {} bytes", self.data_left)));
        }
        let mut data = Vec::new();
        while let Some(part) = self.data(u64::MAX)? {
            data.extend_from_slice(&part);
        }
        Ok(data)
    }

    fn set_data(&mut self, bytes: u64) -> Result<()> {
        // Larger than any file can be, and so that sums do not overflow.
        if i64::try_from(bytes).is_err() {
            return Err(self.invalid(&format!("an entry of {bytes} bytes")));
        }
        self.data_left = bytes;
        self.padding = bytes.next_multiple_of(BLOCK_BYTES as u64) - bytes;
        Ok(())
    }

    fn skip_data(&mut self) -> Result<()> {
        self.data_left += std::mem::take(&mut self.padding);
        while self.data(u64::MAX)?.is_some() {}
        Ok(())
    }

    /// The next header block, or `None` at the end of the archive.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK_BYTES]>> {
        let Some(block) = self.block()? else {
            return if self.position == 0 { Ok(None) } else { Err(self.truncated()) };
        };
        if block != [0; BLOCK_BYTES] {
            return Ok(Some(block));
        }
        match self.block()? {
            Some(block) if block != [0; BLOCK_BYTES] => {
                Err(self.invalid("a zero block stands before a header"))
            }
            _ => Ok(None),
        }
    }

    /// The next block; `None` at the end of the stream.
    fn block(&mut self) -> Result<Option<[u8; BLOCK_BYTES]>> {
        if self.at == self.end && !self.fill()? {
            return Ok(None);
        }
        let content = self.buffer.as_ref().and_then(|buffer| buffer.as_slice().get(self.at..self.end));
        let Some(block) = content.and_then(|content| content.first_chunk::<BLOCK_BYTES>()).copied() else {
            // Buffers hold whole blocks, but for the last.
            return Err(self.truncated());
        };
        self.advance(BLOCK_BYTES);
        Ok(Some(block))
    }

    /// Tells the tape of the next unread byte.
    fn mark(&mut self, mark: impl FnOnce(u64) -> Mark) {
        if let Some(tape) = &mut self.tape {
            tape.mark(mark(self.position));
        }
    }

    fn advance(&mut self, bytes: usize) {
        self.at += bytes;
        self.position += bytes as u64;
    }

    /// Reads a new buffer full, or to the end of the stream; false when nothing was left.
    fn fill(&mut self) -> Result<bool> {
        // Given back first: if nobody else has part of it, the same memory is used again.
        self.buffer = None;
        (self.at, self.end) = (0, 0);
        if let Some(tape) = &mut self.tape {
            tape.pass()?;
        }
        let mut buffer = loop {
            match self.pool.take() {
                Some(buffer) => break buffer,
                None => (self.starved)()?,
            }
        };
        let bytes = buffer.as_mut_slice();
        while self.end < BUFFER_BYTES {
            match self.source.read(&mut bytes[self.end..]) {
                Ok(0) => break,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(source_error(error)),
            }
        }
        let buffer = Arc::new(buffer);
        if let Some(tape) = &mut self.tape
            && self.end > 0
        {
            tape.load(Slice::new(Arc::clone(&buffer), 0..self.end));
        }
        self.buffer = Some(buffer);
        Ok(self.end > 0)
    }

    fn truncated(&self) -> Error {
        self.invalid("unexpected end of the archive")
    }

    fn invalid(&self, detail: &str) -> Error {
        invalid_at(self.position, &detail)
    }
}

fn kind_of(typeflag: u8, name: &[u8]) -> Option<EntryKind> {
    Some(match typeflag {
        // Before POSIX a directory was a file whose name ends in a slash.
        0 if name.ends_with(b"/") => EntryKind::Directory,
        0 | b'0' | b'7' | b'S' => EntryKind::Regular,
        b'1' => EntryKind::Link,
        b'2' => EntryKind::Symlink,
        b'3' => EntryKind::CharDevice,
        b'4' => EntryKind::BlockDevice,
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        _ => return None,
    })
}

/// A user or group id; negative ones are those that old systems kept in 32 bits with a sign. The highest means "no change" to `chown(2)`.
fn valid_id(number: i64) -> Option<u32> {
    let id = u32::try_from(number).ok().or_else(|| i32::try_from(number).ok().map(i32::cast_unsigned))?;
    (id != u32::MAX).then_some(id)
}

fn invalid_at(position: u64, detail: &dyn std::fmt::Display) -> Error {
    Error::invalid_archive(format!("at byte {position}: {detail}"))
}

/// What a decompressor says about corrupt data is about the archive, not about a device.
fn source_error(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
            Error::new(ErrorKind::InvalidArchive, "read archive").source(error)
        }
        _ => Error::io("read archive", error),
    }
}

#[cfg(test)]
mod tests;
