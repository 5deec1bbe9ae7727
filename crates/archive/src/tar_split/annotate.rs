//! A record that somebody else has written, with a note of what it is of.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek};
use std::os::unix::fs::FileExt;

use flate2::bufread::MultiGzDecoder;
use flate2::{Compression, GzBuilder};

use super::lines::unreadable;
use super::maps_digest;
use super::note::{self, Note};
use crate::apply::ArchiveDigest;
use crate::error::{Error, Result};
use crate::id_map::IdMaps;

const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Copies the record `from`, compressed or not, to `to`, an empty file, with the note that it is of `archive`, unpacked with `maps`; as if [`apply_recorded`](crate::apply_recorded) had
/// written it. Whether its lines make sense is not looked at.
///
/// # Errors
/// `InvalidArchive` for damaged gzip; the kind of a failure to read or write.
pub fn annotate(from: &File, archive: ArchiveDigest, maps: &IdMaps, to: &File) -> Result<()> {
    let failed = |error| Error::io("write tar-split record", error);
    let mut from = from;
    from.rewind().map_err(unreadable)?;
    let mut from = BufReader::new(from);
    let is_gzip = from.fill_buf().map_err(unreadable)?.starts_with(&GZIP);
    let mut lines: Box<dyn Read> = if is_gzip { Box::new(MultiGzDecoder::new(from)) } else { Box::new(from) };
    let note = Note { archive, maps: maps_digest(maps), origin: [0; note::ORIGIN_BYTES] };
    let gzip = GzBuilder::new().extra(vec![0; note::BYTES]);
    let mut gzip = gzip.write(BufWriter::new(to), Compression::fast());
    io::copy(&mut lines, &mut gzip).map_err(unreadable)?;
    let file = gzip.finish().and_then(|buffer| buffer.into_inner().map_err(io::IntoInnerError::into_error));
    file.and_then(|file| file.write_all_at(&note.to_extra(), note::OFFSET)).map_err(failed)
}
