//! The files that an image consists of, wherever they are: in a directory, or in a tar that is not unpacked.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graphdriver::{Error, ErrorKind};
use nix::fcntl::OFlag;

use super::tar_index::TarIndex;
use crate::digest::Digest;

/// Largest manifest, index or configuration that is read, in bytes: what registries accept, and enough for thousands of layers.
const MAX_JSON: u64 = 4 << 20;

/// Where the files are.
#[derive(Debug)]
pub(super) enum Blobs {
    Directory(PathBuf),
    Archive { path: PathBuf, index: TarIndex },
}

/// An open file of an image.
#[derive(Debug)]
pub(super) struct Blob {
    file: Arc<File>,
    offset: u64,
    size: u64,
}

impl Blobs {
    /// The members of the tar at `path`.
    ///
    /// # Errors
    /// `InvalidArchive` for what is no plain tar; `InvalidArgument` for what cannot be read at any place, like a pipe; `Io`.
    pub(super) fn archive(path: &Path) -> Result<Self, Error> {
        let index = TarIndex::read(open_regular(path)?, path)?;
        Ok(Self::Archive { path: path.to_owned(), index })
    }

    /// Opens one file.
    ///
    /// # Errors
    /// `InvalidArchive` when the image has no such file; `Io`.
    pub(super) fn open(&self, name: &str) -> Result<Blob, Error> {
        match self {
            Self::Directory(directory) => {
                let path = directory.join(name);
                let file = open_regular(&path)?;
                let size = file.metadata().map_err(|error| Error::io("stat", &path, error))?.len();
                Ok(Blob { file: Arc::new(file), offset: 0, size })
            }
            Self::Archive { index, .. } => {
                let member = index.find(name).map_err(|what| self.invalid(format!("{name:?} {what}")))?;
                Ok(Blob { file: index.file(), offset: member.offset, size: member.size })
            }
        }
    }

    /// Opens a blob of an OCI layout.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(super) fn open_blob(&self, digest: &Digest) -> Result<Blob, Error> {
        self.open(&format!("blobs/sha256/{}", digest.hex()))
    }

    /// Reads a whole JSON file.
    ///
    /// # Errors
    /// As [`open`](Self::open); `InvalidArchive` when it is too large.
    pub(super) fn read_json(&self, name: &str) -> Result<Vec<u8>, Error> {
        self.open(name).and_then(|blob| self.read(name, blob))
    }

    /// Reads a whole JSON blob and makes sure that it is the one that was meant.
    ///
    /// # Errors
    /// As [`open`](Self::open); `InvalidArchive` when it is too large, or has another size or digest.
    pub(super) fn read_blob(&self, digest: &Digest, size: u64) -> Result<Vec<u8>, Error> {
        let blob = self.open_blob(digest)?;
        if blob.size != size {
            return Err(
                self.invalid(format!("blob {digest} has {} bytes, its descriptor says {size}", blob.size))
            );
        }
        let contents = self.read(&digest.to_string(), blob)?;
        match Digest::of(&contents) {
            actual if actual == *digest => Ok(contents),
            actual => Err(self.invalid(format!("blob {digest} has the digest {actual}"))),
        }
    }

    /// An image that is not as it should be.
    pub(super) fn invalid(&self, detail: impl Into<String>) -> Error {
        Error::new(ErrorKind::InvalidArchive, "read image").path(self.path()).detail(detail)
    }

    fn path(&self) -> &Path {
        match self {
            Self::Directory(path) | Self::Archive { path, .. } => path,
        }
    }

    fn read(&self, name: &str, mut blob: Blob) -> Result<Vec<u8>, Error> {
        if blob.size > MAX_JSON {
            return Err(self.invalid(format!("{name:?} has {} bytes, more than {MAX_JSON}", blob.size)));
        }
        let mut contents = Vec::new();
        // The file may grow while it is read; what is too much for the descriptor is no better then.
        let read = (&mut blob).take(MAX_JSON).read_to_end(&mut contents);
        read.map_err(|error| Error::io("read", self.path().join(name), error))?;
        Ok(contents)
    }
}

impl Blob {
    /// Bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size).unwrap_or(usize::MAX);
        let count = buffer.len().min(left);
        let read = self.file.read_at(&mut buffer[..count], self.offset)?;
        self.offset += read as u64;
        self.size -= read as u64;
        Ok(read)
    }
}

/// Opens a regular file; a fifo in its place would make us wait for ever.
fn open_regular(path: &Path) -> Result<File, Error> {
    let opened = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let file = opened.map_err(|error| Error::io("open", path, error))?;
    let metadata = file.metadata().map_err(|error| Error::io("stat", path, error))?;
    if !metadata.is_file() {
        return Err(Error::new(ErrorKind::InvalidArgument, "open").path(path).detail("not a regular file"));
    }
    Ok(file)
}
