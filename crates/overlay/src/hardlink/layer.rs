//! Where one layer is, and what there is of it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use graphdriver_core::{Error, ErrorKind, LayerId, Result, write_atomic};

use super::note::Note;
use crate::home_form::{LOWER_ID, ROOT};
use crate::layout::{MERGED, WORK};

pub(super) const UPPER: &str = "upper";
const NOTE: &str = "note";

/// How a layer's files are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// All of them, in `root`.
    Tree,
    /// What differs from the layer in `lower-id`, in `upper`.
    Upper,
}

/// The directory of a layer, which may be there or not.
#[derive(Clone, Debug)]
pub(super) struct LayerDir {
    path: PathBuf,
}

impl LayerDir {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn root(&self) -> PathBuf {
        self.path.join(ROOT)
    }

    pub(super) fn upper(&self) -> PathBuf {
        self.path.join(UPPER)
    }

    pub(super) fn work(&self) -> PathBuf {
        self.path.join(WORK)
    }

    /// The mount point.
    pub(super) fn merged(&self) -> PathBuf {
        self.path.join(MERGED)
    }

    /// How the layer is kept; `None` when there is none.
    pub(super) fn form(&self) -> Result<Option<Form>> {
        let is_dir = |path: PathBuf| match fs::symlink_metadata(&path) {
            Ok(metadata) => Ok(metadata.is_dir()),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(false)
            }
            Err(error) => Err(Error::io("stat", path, error)),
        };
        // In Docker's order: a layer that was filled loses the other directories last.
        if is_dir(self.root())? {
            return Ok(Some(Form::Tree));
        }
        Ok(if is_dir(self.upper())? { Some(Form::Upper) } else { None })
    }

    /// The directory that holds what is the layer's own.
    pub(super) fn contents(&self, form: Form) -> PathBuf {
        match form {
            Form::Tree => self.root(),
            Form::Upper => self.upper(),
        }
    }

    /// The layer that the upper directory belongs on; `None` for a tree.
    ///
    /// # Errors
    /// `Io` for a file that names no layer.
    pub(super) fn lower_id(&self) -> Result<Option<LayerId>> {
        let path = self.path.join(LOWER_ID);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|error| Error::io("read", &path, error))?,
        };
        match text.trim_end_matches('\n').parse() {
            Ok(id) => Ok(Some(id)),
            Err(error) => {
                Err(Error::new(ErrorKind::Io, "read").path(path).detail("names no layer").source(error))
            }
        }
    }

    /// What is remembered of the layer: nothing, of one of Docker's.
    pub(super) fn note(&self) -> Result<Note> {
        let path = self.path.join(NOTE);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Note::default()),
            text => text.map_err(|error| Error::io("read", &path, error))?,
        };
        Ok(Note::parse(&text).unwrap_or_else(|| {
            tracing::warn!(?path, "not a note of a layer; the layer counts as one of which nothing is known");
            Note::default()
        }))
    }

    pub(super) fn set_note(&self, note: &Note) -> Result<()> {
        self.write(NOTE, &note.to_text())
    }

    pub(super) fn set_lower_id(&self, id: &LayerId) -> Result<()> {
        self.write(LOWER_ID, id.as_str())
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let dir = File::open(&self.path).map_err(|error| Error::io("open", &self.path, error))?;
        write_atomic(&dir, name, text.as_bytes(), 0o644).map_err(|error| error.path(self.path.join(name)))
    }
}
