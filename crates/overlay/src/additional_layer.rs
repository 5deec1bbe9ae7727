//! Layers that another program shows in an additional layer store, such as one that fetches files when they are first opened.
//!
//! The program is told when a layer comes into use, by an attempt to make the file `use` in the layer's directory, and that it is not used any more by an attempt to remove that
//! directory. It counts, carries neither out, and says `ENOENT`. In a store that is a plain directory, the file is removed again and the directory stays.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graphdriver_core::{AdditionalLayer, CreateOptions, Error, ErrorKind, LayerId, Result};

use crate::create::Draft;
use crate::home::Home;
use crate::layout::{ADDITIONAL_LAYER, DIFF, LayerDir};
use crate::note_file;
use crate::shown_layer::{self, BLOB, INFO};

const USE: &str = "use";

/// The layer with this digest, for the image `reference`, in the first store that has it.
///
/// # Errors
/// `InvalidArgument` for what is no digest; `LayerUnknown` when no store has it.
pub(crate) fn lookup(home: &Arc<Home>, toc_digest: &str, reference: &str) -> Result<Found> {
    if !shown_layer::is_digest(toc_digest) {
        let detail = format!("{toc_digest:?} is no digest");
        return Err(Error::new(ErrorKind::InvalidArgument, "look up layer").detail(detail));
    }
    let mut stores = home.options.layer_stores.iter();
    let path = stores.find_map(|store| shown_layer::find(store, toc_digest, reference)).ok_or_else(|| {
        let detail = format!("no additional layer store has {toc_digest} for the image {reference:?}");
        Error::new(ErrorKind::LayerUnknown, "look up layer").detail(detail)
    })?;
    Ok(Found::new(home, path))
}

/// What the layer `id` was made from.
///
/// # Errors
/// `LayerUnknown` also for a layer that was not made so.
pub(crate) fn of_layer(home: &Arc<Home>, id: &LayerId) -> Result<Found> {
    match read(&home.stores.require("look up", id)?)? {
        Some(path) => Ok(Found::new(home, path)),
        None => Err(Error::new(ErrorKind::LayerUnknown, "look up")
            .layer(id)
            .detail("the layer is not from an additional layer store")),
    }
}

/// Tells the store of a layer that is removed. What lies in the home is no longer the layer's.
pub(crate) fn release(store_path: &Path) {
    match fs::remove_dir(store_path) {
        Ok(()) => {}
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {}
        Err(error) => {
            tracing::warn!(path = ?store_path, %error, "an additional layer store was not told that a layer is not used any more");
        }
    }
}

/// Where the store shows what the layer was made from; `None` for the layers that are ours.
///
/// # Errors
/// `Io` when the layer's note cannot be read, or does not say an absolute path.
pub(crate) fn read(layer: &LayerDir) -> Result<Option<PathBuf>> {
    let note = layer.path().join(ADDITIONAL_LAYER);
    let text = match note_file::read(&note) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|error| Error::io("read", &note, error))?,
    };
    let path = PathBuf::from(std::ffi::OsString::from_vec(text.trim_ascii_end().to_vec()));
    if path.is_absolute() {
        return Ok(Some(path));
    }
    Err(Error::new(ErrorKind::Io, "read").path(note).detail(format!("{path:?} is no absolute path")))
}

/// A layer of a store, in use until dropped.
#[derive(Debug)]
pub(crate) struct Found {
    home: Arc<Home>,
    in_use: Use,
}

impl Found {
    fn new(home: &Arc<Home>, path: PathBuf) -> Self {
        Self { home: Arc::clone(home), in_use: Use::begin(path) }
    }
}

impl AdditionalLayer for Found {
    fn create_as(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<()> {
        let path = &self.in_use.path;
        self.home.stores.require_absent(id)?;
        let draft =
            Draft::new(&self.home, &CreateOptions { parent: parent.cloned(), ..CreateOptions::default() })?;
        draft.stand_for(&path.join(DIFF), path.as_os_str().as_bytes())?;
        // The layer's own use, which ends when it is removed.
        let in_use = Use::begin(path.clone());
        draft.publish(&self.home, id)?;
        in_use.keep();
        Ok(())
    }

    fn info(&self) -> Result<File> {
        shown_layer::open(&self.in_use.path, INFO)
    }

    fn blob(&self) -> Result<File> {
        shown_layer::open(&self.in_use.path, BLOB)
    }
}

/// A use that a store was told of, and is told the end of.
#[derive(Debug)]
struct Use {
    path: PathBuf,
    kept: bool,
}

impl Use {
    fn begin(path: PathBuf) -> Self {
        let file = path.join(USE);
        let mut options = File::options();
        match options.write(true).create_new(true).open(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Of somebody else, whose store is a plain directory.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                tracing::warn!(path = ?file, %error, "an additional layer store was not told that a layer is used");
            }
            Ok(_) => {
                if let Err(error) = fs::remove_file(&file) {
                    tracing::warn!(path = ?file, %error, "the file stays");
                }
            }
        }
        Self { path, kept: false }
    }

    /// Leaves the end to whoever removes the layer.
    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        if !self.kept {
            release(&self.path);
        }
    }
}
