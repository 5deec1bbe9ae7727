//! The archive again, from its record and the files of the layer.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::mem;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crc_fast::Digest as Crc;
use graphdriver_sys::FileType;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fstat};
use sha2::{Digest as _, Sha256};

use super::line::Line;
use super::lines::Lines;
use super::record::CRC;
use crate::apply::ArchiveDigest;
use crate::error::{Error, ErrorKind, Result};
use crate::root::{RootDir, clean_name};
use crate::stack::LayerStack;
use crate::walk::open_file_at;

/// An archive that a layer was filled from, made again while it is read.
///
/// # Errors
/// [`read`](Read::read) fails with an [`io::Error`] that carries this crate's [`Error`], and goes on failing: `InvalidArchive` for a malformed record, and where what came
/// out is not the archive; `Io` where the layer is not what the record says, as when it was changed after [`Record::matches`](super::Record::matches); else the
/// kind of the failed system call. The end is only ever reported of what has the archive's digest.
///
/// Reading fills the buffer it is given, so larger ones (from 64 KiB) save system calls.
pub struct Assembly {
    lines: Lines,
    files: Files,
    /// A segment, and how much of it was read.
    segment: Vec<u8>,
    segment_start: usize,
    content: Option<Content>,
    hash: Sha256,
    position: u64,
    archive: ArchiveDigest,
    state: State,
}

/// Where the contents are.
enum Files {
    Directory {
        root: RootDir,
        /// The directory of the file that was opened last.
        last: Option<(PathBuf, OwnedFd)>,
    },
    Stack(LayerStack),
}

struct Content {
    path: PathBuf,
    file: File,
    left: u64,
    crc: Crc,
    expected: u64,
}

#[derive(Debug)]
enum State {
    Reading,
    /// Nothing is left of the record.
    Ended,
    /// What came out is the archive.
    Done,
    /// The failure is told at the next call, because bytes before it came first.
    Failing(Error),
    Failed,
}

impl Assembly {
    pub(super) fn of_directory(lines: Lines, root: &RootDir, archive: ArchiveDigest) -> Self {
        Self::new(lines, Files::Directory { root: root.clone(), last: None }, archive)
    }

    pub(super) fn of_stack(lines: Lines, stack: &LayerStack, archive: ArchiveDigest) -> Self {
        Self::new(lines, Files::Stack(stack.clone()), archive)
    }

    fn new(lines: Lines, files: Files, archive: ArchiveDigest) -> Self {
        Self {
            lines,
            files,
            segment: Vec::new(),
            segment_start: 0,
            content: None,
            hash: Sha256::new(),
            position: 0,
            archive,
            state: State::Reading,
        }
    }

    /// Puts some bytes into `buffer`, which is not empty; 0 at the end.
    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            if self.segment_start < self.segment.len() {
                let rest = &self.segment[self.segment_start..];
                let bytes = rest.len().min(buffer.len());
                buffer[..bytes].copy_from_slice(&rest[..bytes]);
                self.segment_start += bytes;
                return Ok(bytes);
            }
            if let Some(content) = &mut self.content {
                let bytes = content.read(buffer)?;
                if content.left == 0 {
                    self.content = None;
                }
                return Ok(bytes);
            }
            if let State::Ended | State::Done = self.state {
                return Ok(0);
            }
            match self.lines.next()? {
                Some(Line::Segment(payload)) => (self.segment, self.segment_start) = (payload, 0),
                Some(Line::File { bytes: 0, .. }) => {}
                Some(Line::File { name, bytes, crc }) => self.content = Some(self.open(&name, bytes, crc)?),
                None => self.state = State::Ended,
            }
        }
    }

    fn open(&mut self, name: &[u8], bytes: u64, expected: u64) -> Result<Content> {
        let path = clean_name(name)?;
        let fd = self.files.open(&path)?;
        let stat = fstat(&fd).map_err(|errno| Error::syscall("fstat", &path, errno))?;
        let is_regular = FileType::from_mode(stat.st_mode) == FileType::Regular;
        if !is_regular || u64::try_from(stat.st_size) != Ok(bytes) {
            return Err(changed(&path));
        }
        Ok(Content { path, file: File::from(fd), left: bytes, crc: Crc::new(CRC), expected })
    }

    fn digest(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.position += bytes.len() as u64;
    }

    /// # Errors
    /// `InvalidArchive` unless the archive came out.
    fn check(&mut self) -> Result<()> {
        let sha256 = mem::take(&mut self.hash).finalize().into();
        if self.archive == (ArchiveDigest { sha256, bytes: self.position }) {
            return Ok(());
        }
        let detail = "the record and the layer do not make the archive: its digest or size is another";
        Err(Error::new(ErrorKind::InvalidArchive, "assemble archive").detail(detail))
    }
}

impl Files {
    fn open(&mut self, path: &Path) -> Result<OwnedFd> {
        let Some(file_name) = path.file_name() else {
            return Err(super::lines::invalid("the root has contents"));
        };
        let (root, last) = match self {
            Self::Directory { root, last } => (root, last),
            Self::Stack(stack) => return Ok(stack.open_file(path)?.into()),
        };
        let parent = path.parent().unwrap_or(Path::new(""));
        let directory = match last.take() {
            Some((known, fd)) if known == parent => fd,
            _ => root.open_at(parent, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())?,
        };
        let opened = open_file_at(&directory, file_name);
        *last = Some((parent.to_owned(), directory));
        opened.map_err(|errno| Error::syscall("openat", path, errno))
    }
}

impl Content {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let wanted = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let bytes = loop {
            match self.file.read(&mut buffer[..wanted]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read", error).path(&self.path)),
                Ok(0) => return Err(changed(&self.path)),
                Ok(bytes) => break bytes,
            }
        };
        self.crc.update(&buffer[..bytes]);
        self.left -= bytes as u64;
        if self.left == 0 && self.crc.finalize() != self.expected {
            return Err(changed(&self.path));
        }
        Ok(bytes)
    }
}

fn changed(path: &Path) -> Error {
    Error::new(ErrorKind::Io, "assemble archive")
        .path(path)
        .detail("the file is not the one that the layer was filled with: it was changed while it was read, or is damaged")
}

impl Read for Assembly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match mem::replace(&mut self.state, State::Failed) {
            State::Failing(error) => return Err(error.into()),
            State::Failed => return Err(io::Error::other("assembling the archive has failed before")),
            state => self.state = state,
        }
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut filled = 0;
        let mut failure = None;
        while filled < buffer.len() {
            match self.read_some(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        self.digest(&buffer[..filled]);
        if let (State::Ended, None) = (&self.state, &failure)
            && filled == 0
        {
            failure = self.check().err();
            // Asked again, the answer is the same.
            if failure.is_none() {
                self.state = State::Done;
            }
        }
        match failure {
            Some(error) if filled == 0 => {
                self.state = State::Failed;
                Err(error.into())
            }
            Some(error) => {
                self.state = State::Failing(error);
                Ok(filled)
            }
            None => Ok(filled),
        }
    }
}

impl fmt::Debug for Assembly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assembly").field("state", &self.state).finish_non_exhaustive()
    }
}
