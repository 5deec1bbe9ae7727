//! From the bytes of an archive to its record and its digest.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crc_fast::{CrcAlgorithm, Digest as Crc};
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use sha2::{Digest as _, Sha256};

use super::names::{Names, Naming};
use super::note::{self, Note};
use super::{NotExact, Recorded, line};
use crate::apply::ArchiveDigest;
use crate::root::clean_name;
use crate::tar::header::BLOCK_BYTES;
use crate::walk::as_path;

/// The checksum of tar-split, `hash/crc64` of Go with its `ISO` table.
pub(super) const CRC: CrcAlgorithm = CrcAlgorithm::Crc64GoIso;
/// What Go's reader of records keeps in memory at a time is up to us: larger headers are cut.
const MAX_SEGMENT_BYTES: usize = 4 << 20;
/// The parts in which bytes after the end of the archive are written, as in Go.
const TRAILER_SEGMENT_BYTES: usize = 1 << 20;
/// Bytes of sparse files that a record takes in. The format has checksums of whole contents only.
const MAX_VERBATIM_BYTES: u64 = 64 << 20;
/// Bytes after the end of the archive that a record takes in. Tape drives fill up to 10 KiB, some programs more.
const MAX_TRAILER_BYTES: u64 = 64 << 20;

/// A place in the stream that the reader of the archive came to.
#[derive(Debug)]
pub(crate) enum Mark {
    /// The header of an entry ends here, and its data of `data` bytes begins.
    Entry { at: u64, name: Vec<u8>, data: u64, is_sparse: bool },
    /// The archive ends here; what follows is not looked at.
    End { at: u64 },
}

/// Digests an archive and writes its record.
#[derive(Debug)]
pub(crate) struct Recorder {
    hash: Sha256,
    /// Bytes of the stream before the next ones.
    position: u64,
    lines: Option<Lines>,
    not_exact: Option<NotExact>,
    state: State,
    /// Bytes that are no contents, not written yet.
    segment: Vec<u8>,
    /// Of sparse files, so far.
    verbatim_bytes: u64,
}

#[derive(Debug)]
enum State {
    /// Between contents.
    Framing,
    /// In so many bytes of a sparse file's data and padding, which are kept as they are.
    Verbatim(u64),
    Content(Box<Content>),
    /// After the end of the archive, by so many bytes.
    Trailer(u64),
}

#[derive(Debug)]
struct Content {
    name: Vec<u8>,
    bytes: u64,
    left: u64,
    crc: Crc,
}

impl Recorder {
    /// Digests only.
    pub(crate) fn digesting() -> Self {
        Self::new(None)
    }

    /// Writes the record to `file`, which is empty; `maps` is noted down with it.
    pub(crate) fn recording(file: File, maps: [u8; 32]) -> Self {
        Self::new(Some(Lines::new(file, maps)))
    }

    fn new(lines: Option<Lines>) -> Self {
        Self {
            hash: Sha256::new(),
            position: 0,
            lines,
            not_exact: None,
            state: State::Framing,
            segment: Vec::new(),
            verbatim_bytes: 0,
        }
    }

    /// The next bytes of the stream and the places in them, in order.
    ///
    /// # Errors
    /// Failures to write the record.
    pub(crate) fn push(&mut self, bytes: &[u8], marks: Vec<Mark>) -> io::Result<()> {
        self.hash.update(bytes);
        let start = self.position;
        self.position += bytes.len() as u64;
        let mut rest = bytes;
        for mark in marks {
            if self.lines.is_none() {
                return Ok(());
            }
            let (Mark::Entry { at, .. } | Mark::End { at }) = mark;
            let done = bytes.len() - rest.len();
            let until = usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX).saturating_sub(done);
            let (before, after) = rest.split_at(until.min(rest.len()));
            self.consume(before)?;
            rest = after;
            self.mark(mark)?;
        }
        self.consume(rest)
    }

    /// Completes the record, unless `lost` says what of the archive the layer does not hold.
    ///
    /// # Errors
    /// Failures to write the record.
    pub(crate) fn finish(mut self, lost: Option<NotExact>) -> io::Result<(ArchiveDigest, Recorded)> {
        let archive = ArchiveDigest { sha256: self.hash.finalize().into(), bytes: self.position };
        if let Some(not_exact) = self.not_exact.or(lost) {
            return Ok((archive, Recorded::NotExact(not_exact)));
        }
        let Some(mut lines) = self.lines else { return Ok((archive, Recorded::NotAsked)) };
        lines.segment(&mut self.segment)?;
        lines.finish(archive)?;
        Ok((archive, Recorded::Exact))
    }

    /// Bytes without a mark among them.
    fn consume(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let Some(lines) = &mut self.lines else { return Ok(()) };
        if let State::Content(content) = &mut self.state {
            let part = bytes.len().min(usize::try_from(content.left).unwrap_or(usize::MAX));
            let (data, after) = bytes.split_at(part);
            content.crc.update(data);
            content.left -= data.len() as u64;
            bytes = after;
            if content.left > 0 {
                return Ok(());
            }
            let Content { name, bytes: size, crc, .. } = content.as_ref();
            match crc.finalize() {
                // Stands for no contents at all.
                0 => {
                    let path = as_path(name).to_owned();
                    return self.give_up(NotExact::Replaced(path));
                }
                crc => lines.file(name, *size, crc)?,
            }
            self.state = State::Framing;
        }
        if let State::Verbatim(left) = &mut self.state {
            let part = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
            let (data, after) = bytes.split_at(part);
            *left -= data.len() as u64;
            let is_whole = *left == 0;
            push(lines, &mut self.segment, data, MAX_SEGMENT_BYTES)?;
            if !is_whole {
                return Ok(());
            }
            // So that the next segment has the headers of an entry and nothing else.
            lines.segment(&mut self.segment)?;
            self.state = State::Framing;
            bytes = after;
        }
        let limit = match &mut self.state {
            State::Trailer(after) => {
                *after += bytes.len() as u64;
                if *after > MAX_TRAILER_BYTES {
                    return self.give_up(NotExact::LongTrailer);
                }
                TRAILER_SEGMENT_BYTES
            }
            _ => MAX_SEGMENT_BYTES,
        };
        push(lines, &mut self.segment, bytes, limit)
    }

    fn mark(&mut self, mark: Mark) -> io::Result<()> {
        let Some(lines) = &mut self.lines else { return Ok(()) };
        lines.segment(&mut self.segment)?;
        let (mut name, bytes) = match mark {
            Mark::End { .. } => {
                self.state = State::Trailer(0);
                return Ok(());
            }
            Mark::Entry { name, is_sparse: true, data, .. } => return self.sparse(&name, data),
            Mark::Entry { name, data, .. } => (name, data),
        };
        match lines.names.add(&name, bytes > 0) {
            Naming::AsIs => {}
            Naming::Omitted => return Ok(()),
            Naming::Rooted => name = rooted(&name),
            Naming::Lost => return self.give_up(NotExact::Replaced(as_path(&name).to_owned())),
        }
        if bytes == 0 {
            return lines.file(&name, 0, 0);
        }
        self.state = State::Content(Box::new(Content { name, bytes, left: bytes, crc: Crc::new(CRC) }));
        Ok(())
    }

    fn sparse(&mut self, name: &[u8], data: u64) -> io::Result<()> {
        let bytes = data.next_multiple_of(BLOCK_BYTES as u64);
        self.verbatim_bytes = self.verbatim_bytes.saturating_add(bytes);
        if self.verbatim_bytes > MAX_VERBATIM_BYTES {
            return self.give_up(NotExact::Sparse(as_path(name).to_owned()));
        }
        let Some(lines) = &mut self.lines else { return Ok(()) };
        match lines.names.add(name, false) {
            Naming::AsIs => lines.file(name, 0, 0)?,
            Naming::Omitted => {}
            Naming::Rooted | Naming::Lost => {
                return self.give_up(NotExact::Replaced(as_path(name).to_owned()));
            }
        }
        if bytes > 0 {
            self.state = State::Verbatim(bytes);
        }
        Ok(())
    }

    /// The digest goes on.
    #[allow(clippy::unnecessary_wraps, reason = "ends the functions that call it")]
    fn give_up(&mut self, not_exact: NotExact) -> io::Result<()> {
        self.lines = None;
        self.segment = Vec::new();
        self.not_exact = Some(not_exact);
        Ok(())
    }
}

/// Adds `bytes` to the segment, which is written whenever it has `limit`.
fn push(lines: &mut Lines, segment: &mut Vec<u8>, mut bytes: &[u8], limit: usize) -> io::Result<()> {
    while segment.len() + bytes.len() > limit {
        let (fitting, after) = bytes.split_at(limit - segment.len());
        segment.extend_from_slice(fitting);
        lines.segment(segment)?;
        bytes = after;
    }
    segment.extend_from_slice(bytes);
    Ok(())
}

fn rooted(name: &[u8]) -> Vec<u8> {
    use std::os::unix::ffi::OsStringExt;
    let clean =
        clean_name(name).map_or_else(|_| name.to_vec(), |path| PathBuf::into_os_string(path).into_vec());
    [b"/", clean.as_slice()].concat()
}

/// The record as a file.
#[derive(Debug)]
struct Lines {
    gzip: GzEncoder<BufWriter<File>>,
    maps: [u8; 32],
    names: Names,
    position: u64,
    /// The line that is written.
    text: Vec<u8>,
}

impl Lines {
    fn new(file: File, maps: [u8; 32]) -> Self {
        // Filled in at the end, when the digest is known. Go compresses at this level too.
        let gzip =
            GzBuilder::new().extra(vec![0; note::BYTES]).write(BufWriter::new(file), Compression::fast());
        Self { gzip, maps, names: Names::default(), position: 0, text: Vec::new() }
    }

    /// Writes and empties `payload`, if there is any.
    fn segment(&mut self, payload: &mut Vec<u8>) -> io::Result<()> {
        if payload.is_empty() {
            return Ok(());
        }
        line::push_segment(&mut self.text, payload, self.position);
        payload.clear();
        self.write()
    }

    fn file(&mut self, name: &[u8], bytes: u64, crc: u64) -> io::Result<()> {
        line::push_file(&mut self.text, name, bytes, crc, self.position);
        self.write()
    }

    fn write(&mut self) -> io::Result<()> {
        self.position += 1;
        self.gzip.write_all(&self.text)?;
        self.text.clear();
        Ok(())
    }

    fn finish(self, archive: ArchiveDigest) -> io::Result<()> {
        let file = self.gzip.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        let note = Note { archive, maps: self.maps, origin: [0; note::ORIGIN_BYTES] };
        file.write_all_at(&note.to_extra(), note::OFFSET)
    }
}
