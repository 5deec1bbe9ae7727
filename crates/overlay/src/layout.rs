//! Where things are in a store of layers.
//!
//! The layout is that of containers/storage's overlay and of Docker's overlay2, whose programs read what is written here:
//!
//! ```text
//! <store>/l/<LINK>          symbolic link to ../<id>/diff, a short name for mount options
//! <store>/tempdirs/         what is being made or deleted
//! <store>/<id>/diff/        what the layer adds: the upper directory, or a lower one of its children
//! <store>/<id>/diff1../     what it added before its owners were rewritten, most recent first
//! <store>/<id>/link         LINK, without a newline
//! <store>/<id>/lower        the layers below, uppermost first: "l/<LINK>:l/<LINK>..."; none for a base layer
//! <store>/<id>/work         overlay's own
//! <store>/<id>/merged/      mount point
//! <store>/<id>/empty/       lower directory for layers that have none below
//! <store>/<id>/additionallayer  where another program shows the layer; diff is a symbolic link to the directory diff there
//! <store>/<id>/composefs-data/composefs.blob  an image of what it adds, whose files' contents are in diff, by their digests
//! <store>/<id>/composefs-layers/  where containers/storage mounts such images meanwhile
//! <store>/<id>/tar-split.gz the record of the archive it was filled from, in stores of which containers/storage keeps no list
//! ```

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use graphdriver_core::{Error, ErrorKind, LayerId, Result};

use crate::link::LinkId;
use crate::mount::Part;

pub(crate) const LINKS: &str = "l";
pub(crate) const TEMP_DIRS: &str = "tempdirs";
pub(crate) const DIFF: &str = "diff";
pub(crate) const LINK: &str = "link";
pub(crate) const LOWER: &str = "lower";
pub(crate) const WORK: &str = "work";
pub(crate) const MERGED: &str = "merged";
pub(crate) const EMPTY: &str = "empty";
pub(crate) const ADDITIONAL_LAYER: &str = "additionallayer";
pub(crate) const COMPOSEFS_DATA: &str = "composefs-data";
pub(crate) const COMPOSEFS_BLOB: &str = "composefs.blob";
pub(crate) const COMPOSEFS_LAYERS: &str = "composefs-layers";
/// The record of the archive that the layer was filled from.
pub(crate) const TAR_SPLIT: &str = "tar-split.gz";

/// Whether a store's entry of this name is the driver's, ours or another program's, and no layer.
pub(crate) fn is_of_driver(name: &OsStr) -> bool {
    const NAMES: [&str; 6] =
        [LINKS, TEMP_DIRS, "staging", "backingFsBlockDev", ".has-mount-program", "lost+found"];
    NAMES.iter().any(|of_driver| name == *of_driver) || name.as_encoded_bytes().starts_with(b".graphdriver")
}

/// A directory of layers; all paths are absolute.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    path: PathBuf,
    /// Of a store that is only read: where its layers are mounted.
    mounts: Option<PathBuf>,
}

impl Layout {
    /// The store at `path`, an absolute path, whose layers are ours to write.
    pub(crate) fn own(path: PathBuf) -> Self {
        Self { path, mounts: None }
    }

    /// The store of somebody else at `path`. Nothing is ever written there; its layers are mounted below `mounts`.
    pub(crate) fn foreign(path: PathBuf, mounts: PathBuf) -> Self {
        Self { path, mounts: Some(mounts) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn is_foreign(&self) -> bool {
        self.mounts.is_some()
    }

    pub(crate) fn links(&self) -> PathBuf {
        self.path.join(LINKS)
    }

    pub(crate) fn link(&self, link: &LinkId) -> PathBuf {
        self.links().join(link.as_str())
    }

    /// Where the layer `id` is or would be.
    pub(crate) fn layer(&self, id: &LayerId) -> LayerDir {
        let path = self.path.join(id);
        let mounts = self.mounts.as_ref().map_or_else(|| path.clone(), |mounts| mounts.join(id));
        LayerDir { id: id.clone(), path, mounts, foreign: self.is_foreign() }
    }
}

/// Where one layer is; nothing is said of whether it exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LayerDir {
    id: LayerId,
    path: PathBuf,
    mounts: PathBuf,
    foreign: bool,
}

impl LayerDir {
    pub(crate) fn id(&self) -> &LayerId {
        &self.id
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the layer is somebody else's, not to be written to.
    pub(crate) fn is_foreign(&self) -> bool {
        self.foreign
    }

    /// Whether another program shows what the layer adds, in an additional layer store.
    pub(crate) fn is_lent(&self) -> bool {
        self.diff().is_symlink() && self.path.join(ADDITIONAL_LAYER).exists()
    }

    /// Whether what the layer adds is kept as an image, with the contents of its files in `diff`.
    pub(crate) fn is_image(&self) -> bool {
        // One without the image is one that is broken; its `diff` is no layer.
        fs::symlink_metadata(self.path.join(COMPOSEFS_DATA)).is_ok()
    }

    /// The image.
    pub(crate) fn image(&self) -> PathBuf {
        self.path.join(COMPOSEFS_DATA).join(COMPOSEFS_BLOB)
    }

    /// Whether nothing can be written to what the layer adds.
    pub(crate) fn is_read_only(&self) -> bool {
        self.is_foreign() || self.is_lent() || self.is_image()
    }

    pub(crate) fn diff(&self) -> PathBuf {
        self.path.join(DIFF)
    }

    /// The directories that hold what the layer adds, uppermost first: `diff`, then `diff1` and so on, into which
    /// earlier ones were renamed when owners were rewritten.
    pub(crate) fn diffs(&self) -> Vec<PathBuf> {
        let rotated = (1..).map(|number| self.path.join(format!("{DIFF}{number}")));
        std::iter::once(self.diff())
            .chain(rotated.take_while(|path| fs::symlink_metadata(path).is_ok_and(|it| it.is_dir())))
            .collect()
    }

    /// What the layer contributes to a mount, uppermost first.
    pub(crate) fn parts(&self) -> Vec<Part<'static>> {
        if self.is_image() {
            return vec![Part::Image(Cow::from(self.image()))];
        }
        self.diffs().into_iter().map(|path| Part::Directory(Cow::from(path))).collect()
    }

    /// The directory with the contents of an image's files, by their digests.
    pub(crate) fn objects(&self) -> Option<PathBuf> {
        self.is_image().then(|| self.diff())
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.path.join(WORK)
    }

    /// The directory that holds the mount point: the layer's own, or for somebody else's layer one in the run home.
    pub(crate) fn mounts(&self) -> &Path {
        &self.mounts
    }

    /// The mount point.
    pub(crate) fn merged(&self) -> PathBuf {
        self.mounts.join(MERGED)
    }

    pub(crate) fn empty(&self) -> PathBuf {
        self.mounts.join(EMPTY)
    }

    /// Whether the layer exists: has a `diff` directory, which is the first thing that is seen of a layer and the last that vanishes.
    pub(crate) fn exists(&self) -> Result<bool> {
        let diff = self.diff();
        match fs::metadata(&diff) {
            Ok(metadata) => Ok(metadata.is_dir()),
            // What another program shows is there while it does not, too: it can be removed, and says why it cannot be mounted.
            Err(_) if self.is_lent() => Ok(true),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(false)
            }
            Err(error) => Err(Error::io("stat", diff, error)),
        }
    }

    /// # Errors
    /// `LayerUnknown` when there is no such layer.
    pub(crate) fn require(&self, operation: &'static str) -> Result<()> {
        if self.exists()? { Ok(()) } else { Err(Error::layer_unknown(operation, &self.id)) }
    }

    /// # Errors
    /// `InvalidArgument` for a layer that is not ours to change.
    pub(crate) fn require_own(&self, operation: &'static str) -> Result<()> {
        if self.foreign {
            return Err(self.not_ours(operation));
        }
        if self.is_lent() {
            return Err(Error::new(ErrorKind::InvalidArgument, operation)
                .layer(&self.id)
                .path(self.diff())
                .detail("what the layer adds is shown by an additional layer store, which is only read"));
        }
        if self.is_image() {
            return Err(Error::new(ErrorKind::InvalidArgument, operation)
                .layer(&self.id)
                .path(self.image())
                .detail("what the layer adds is kept as an image, which is only read"));
        }
        Ok(())
    }

    /// The failure to change a layer of somebody else's store.
    pub(crate) fn not_ours(&self, operation: &'static str) -> Error {
        Error::new(ErrorKind::InvalidArgument, operation)
            .layer(&self.id)
            .path(&self.path)
            .detail("the layer belongs to an additional image store, which is only read")
    }
}
