//! The layers of a home, each a directory with all of its files.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use graphdriver_archive::RootDir;
use nix::errno::Errno;

use super::place::list_ids;
use crate::error::{Error, Result};
use crate::layer_id::LayerId;
use crate::metadata_file::sync_dir;

/// The directory whose entries are the layers.
///
/// Other processes make and remove layers at any time. Whoever has none to lose keeps a reference; for all others, a layer that goes while they look at it is one that there
/// is not: [`LayerUnknown`](crate::ErrorKind::LayerUnknown).
#[derive(Debug)]
pub struct LayersDir {
    path: PathBuf,
}

impl LayersDir {
    /// The existing directory `path`.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where the directory is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the layer's files are, or would be.
    pub fn layer(&self, id: &LayerId) -> PathBuf {
        self.path.join(id)
    }

    /// Whether there is such a layer. What is no directory is none.
    ///
    /// # Errors
    /// `PermissionDenied`, `Io`.
    pub fn exists(&self, id: &LayerId) -> Result<bool> {
        let path = self.layer(id);
        match fs::symlink_metadata(&path) {
            Ok(metadata) => Ok(metadata.is_dir()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("stat", path, error)),
        }
    }

    /// # Errors
    /// `LayerUnknown` when there is no such layer; as [`exists`](Self::exists).
    pub fn require(&self, operation: &'static str, id: &LayerId) -> Result<()> {
        if self.exists(id)? { Ok(()) } else { Err(Error::layer_unknown(operation, id)) }
    }

    /// Opens the root directory of a layer.
    ///
    /// # Errors
    /// `LayerUnknown` when there is no such layer, or not any more; `PermissionDenied`, `Io`.
    pub fn open(&self, operation: &'static str, id: &LayerId) -> Result<RootDir> {
        self.with_layer(operation, id, |root| Ok(root.clone()))
    }

    /// Opens the root directory of the layer on which another is made.
    ///
    /// # Errors
    /// `ParentUnknown` when there is no such layer, or not any more; `PermissionDenied`, `Io`.
    pub fn open_parent(&self, parent: &LayerId) -> Result<RootDir> {
        self.open("create", parent).map_err(|error| error.about_parent(parent))
    }

    /// Does `work` with the open root directory of a layer that may be removed meanwhile.
    ///
    /// # Errors
    /// `LayerUnknown` when there is no such layer, or when `work` missed something and there is not any more; `PermissionDenied`, `Io`; as `work`.
    pub fn with_layer<T>(
        &self,
        operation: &'static str,
        id: &LayerId,
        work: impl FnOnce(&RootDir) -> Result<T>,
    ) -> Result<T> {
        self.require(operation, id)?;
        let result = RootDir::open(self.layer(id)).map_err(Error::from).and_then(|root| work(&root));
        match result {
            Err(error) if error.errno() == Some(Errno::ENOENT) && !self.exists(id)? => {
                Err(Error::layer_unknown(operation, id))
            }
            result => result,
        }
    }

    /// Whether a layer can be made now. The home's lock is held.
    ///
    /// # Errors
    /// `LayerExists`; `ParentUnknown` when another program removed the parent meanwhile; `Io`.
    pub fn require_room(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<()> {
        if self.exists(id)? {
            return Err(Error::layer_exists("create", id));
        }
        match parent {
            Some(parent) if !self.exists(parent)? => Err(Error::parent_unknown("create", parent)),
            _ => Ok(()),
        }
    }

    /// Flushes the name of a layer that was just made.
    ///
    /// The layer is there; whether its name survives a power cut right now is all that is in doubt, so that a failure is only logged.
    pub fn flush_name(&self, id: &LayerId) {
        let synced =
            File::open(&self.path).map_err(|error| Error::io("open", &self.path, error)).and_then(sync_dir);
        if let Err(error) = synced {
            tracing::warn!(layer = %id, error = %error.report(), "the name of a new layer may not survive a power cut");
        }
    }

    /// All layers, sorted. What else another program put there is passed over.
    ///
    /// # Errors
    /// `PermissionDenied`, `Io`.
    pub fn list(&self) -> Result<Vec<LayerId>> {
        let entries = list_ids(&self.path)?.into_iter();
        let mut found: Vec<_> =
            entries.filter(|(_, file_type)| file_type.is_dir()).map(|(id, _)| id).collect();
        found.sort_unstable();
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn layers() -> (tempfile::TempDir, LayersDir, LayerId) {
        let dir = tempfile::tempdir().unwrap();
        let layers = LayersDir::new(dir.path().to_owned());
        (dir, layers, "layer".parse().unwrap())
    }

    #[test]
    fn only_directories_are_layers() {
        let (dir, layers, layer) = layers();
        fs::create_dir(layers.layer(&layer)).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink("layer", dir.path().join("link")).unwrap();
        assert_eq!(layers.list().unwrap(), std::slice::from_ref(&layer));
        assert_eq!(layers.open("look at", &layer).unwrap().path(), layers.layer(&layer));
        for other in ["file", "link", "nothing"] {
            let error = layers.open("look at", &other.parse().unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::LayerUnknown, "{other}: {}", error.report());
        }
    }

    #[test]
    fn a_layer_that_goes_meanwhile_is_unknown() {
        let (_dir, layers, layer) = layers();
        let missing = |root: &RootDir| Err::<(), _>(Error::syscall("open", root.path(), Errno::ENOENT));
        fs::create_dir(layers.layer(&layer)).unwrap();
        let error = layers.with_layer("look at", &layer, missing).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ENOENT), "{}", error.report());
        let error = layers
            .with_layer("look at", &layer, |root| {
                fs::remove_dir(root.path()).unwrap();
                missing(root)
            })
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LayerUnknown, "{}", error.report());
    }
}
