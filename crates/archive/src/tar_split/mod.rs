//! Records of archives in the format of tar-split, from which a layer's files make the archive again, byte for byte.
//!
//! A record is gzip of JSON lines (`github.com/vbatts/tar-split`, which containers/storage and Docker keep beside their layers): segments, which are the
//! archive's bytes that are no file's contents, and files, with size and CRC-64 of contents that are in the layer. Go's programs read the records written here, and theirs are read here.
//!
//! | file | answers |
//! |---|---|
//! | `line` | what does a line say? |
//! | `names` | which name does a file get? |
//! | `note` | what is noted beyond tar-split? |
//! | `record` | which lines does an archive make? |
//! | `tape` | on which thread? |
//! | `seal` | since when is the layer known? |
//! | `annotate` | a record that somebody else has written |
//! | `lines` | the lines of a record, read |
//! | `headers` | the entries that its segments describe |
//! | `verify` | is the layer as the archive made it? |
//! | `assemble` | the archive again |

mod annotate;
mod assemble;
mod headers;
mod line;
mod lines;
mod names;
mod note;
pub(crate) mod record;
mod seal;
mod suspects;
pub(crate) mod tape;
mod verify;

use std::fs::File;
use std::path::PathBuf;

pub use annotate::annotate;
pub use assemble::Assembly;
pub use seal::seal;
pub use verify::LayerLook;

use self::line::Line;
use self::lines::Lines;
use self::note::Note;
pub(crate) use self::note::maps_digest;
use crate::apply::ArchiveDigest;
use crate::error::Result;
use crate::id_map::IdMaps;
use crate::root::RootDir;
use crate::stack::LayerStack;

/// Whether `apply` wrote a record of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It was not asked to.
    NotAsked,
    /// The archive can be had again byte for byte.
    Exact,
    /// It cannot: what was written of the record is of no use.
    NotExact(NotExact),
}

/// Why an archive cannot be had again byte for byte from the layer that it made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotExact {
    /// The contents that an entry had are not in the layer: the name came again, or something else took them away.
    #[error("the archive itself replaces or leaves out the contents of {0:?}")]
    Replaced(PathBuf),
    /// The format has checksums of whole contents only, so the data of sparse files is kept in the record; this is too much.
    #[error("too much data of sparse files, of which {0:?} is the last")]
    Sparse(PathBuf),
    /// More follows the end of the archive than a record should hold.
    #[error("too much follows the end of the archive")]
    LongTrailer,
}

/// A record that was read far enough to know what it is of.
#[derive(Debug)]
pub struct Record {
    file: File,
    note: Option<Note>,
}

impl Record {
    /// The record in `file`, in whole or not: it is checked as it is used.
    ///
    /// # Errors
    /// `InvalidArchive` for what is not gzip; the kind of the failure to read.
    pub fn open(file: File) -> Result<Self> {
        let note = Lines::new(duplicate(&file)?)?.note()?;
        Ok(Self { file, note })
    }

    /// Which archive it is of, where the record says so: those that [`apply_recorded`](crate::apply_recorded) wrote do.
    pub fn archive(&self) -> Option<ArchiveDigest> {
        self.note.map(|note| note.archive)
    }

    /// Whether the archive was unpacked with these maps; `None` where the record does not say.
    pub fn was_applied_with(&self, maps: &IdMaps) -> Option<bool> {
        self.note.map(|note| note.maps == maps_digest(maps))
    }

    /// The size of the archive that the record describes, by reading all of it. Records that Go's programs wrote of archives with sparse files have another size
    /// than the archive had.
    ///
    /// # Errors
    /// `InvalidArchive` for a malformed record; the kind of the failure to read.
    pub fn assembled_bytes(&self) -> Result<u64> {
        let mut lines = Lines::new(duplicate(&self.file)?)?;
        let mut sum = 0_u64;
        while let Some(line) = lines.next()? {
            sum = sum.saturating_add(match line {
                Line::Segment(payload) => payload.len() as u64,
                Line::File { bytes, .. } => bytes,
            });
        }
        Ok(sum)
    }

    /// Whether the layer in `root` is what the archive made, and nobody has changed it since.
    ///
    /// What was last changed (`st_ctime`, which no program can set) before the record was [sealed](seal) is as it was then. All else is compared with the
    /// archive's headers, contents by their checksums; so a copy of a whole store costs reading, and is recognized. In doubt the answer is no.
    ///
    /// Of records that other programs wrote, the time of the last writing (`st_mtime`) counts as that of the seal.
    ///
    /// # Errors
    /// `InvalidArchive` for a malformed record; the kind of a failed system call.
    pub fn matches(&self, root: &RootDir, look: &LayerLook<'_>) -> Result<bool> {
        verify::matches(&self.file, self.note.as_ref(), root, look)
    }

    /// The archive again, with contents from the layer in `root`; `archive` is what must come out.
    ///
    /// # Errors
    /// The kind of the failure to read.
    pub fn assemble(self, root: &RootDir, archive: ArchiveDigest) -> Result<Assembly> {
        Ok(Assembly::of_directory(Lines::new(self.file)?, root, archive))
    }

    /// The archive again, with contents from a layer that consists of all directories of `stack`; `archive` is what must come out.
    ///
    /// # Errors
    /// The kind of the failure to read.
    pub fn assemble_from(self, stack: &LayerStack, archive: ArchiveDigest) -> Result<Assembly> {
        Ok(Assembly::of_stack(Lines::new(self.file)?, stack, archive))
    }

    /// Whether nothing in `root`, with which the record was [sealed](seal), and nothing in `also` was changed since: as [`matches`](Self::matches), but nothing is compared with the archive. For layers
    /// whose directories have another form than their archive.
    ///
    /// # Errors
    /// The kind of a failed system call.
    pub fn is_untouched(&self, root: &RootDir, also: &RootDir) -> Result<bool> {
        verify::is_untouched(&self.file, self.note.as_ref(), root, also)
    }
}

fn duplicate(file: &File) -> Result<File> {
    file.try_clone().map_err(|error| crate::error::Error::io("dup", error))
}

#[cfg(test)]
mod tests;
