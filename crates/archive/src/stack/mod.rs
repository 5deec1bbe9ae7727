//! Directories of layers stacked on one another, looked at as a mount shows them.
//!
//! Follows what the kernel does ([overlayfs.rst](https://docs.kernel.org/filesystems/overlayfs.html)): whiteouts in both forms, opaque
//! directories, directories that were renamed (`redirect_dir`), files of which a layer has the metadata only (`metacopy`), and directories that
//! are searched for such files' contents alone. Nothing is mounted.

mod file;
mod marks;
mod search;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use self::marks::{LayerForm, Marks};
use self::search::Search;
pub(crate) use self::search::Shown;
use crate::error::{Error, Result};
use crate::root::RootDir;
use crate::walk::{Listing, as_path};
use crate::whiteout::OverlayXattrs;

/// Directories of layers, uppermost first, each hiding or completing what is in those below it. Cloning shares the descriptors.
///
/// Whatever the marks in the directories say, nothing outside them is reached: they are followed by descriptor, below the
/// [`RootDir`]s.
#[derive(Clone)]
pub struct LayerStack {
    layers: Vec<RootDir>,
    data_only: Vec<RootDir>,
    form: LayerForm,
}

impl LayerStack {
    /// Directories as the kernel's overlay stores them, uppermost first.
    pub fn overlay(directories: Vec<RootDir>, xattrs: OverlayXattrs) -> Self {
        Self { layers: directories, data_only: Vec::new(), form: LayerForm::Overlay(xattrs) }
    }

    /// Branches as AUFS stores them, uppermost first.
    pub fn aufs(branches: Vec<RootDir>) -> Self {
        Self { layers: branches, data_only: Vec::new(), form: LayerForm::Aufs }
    }

    /// Directories as fuse-overlayfs writes and reads them, uppermost first: marks in all forms that it knows.
    pub fn fuse_overlay(directories: Vec<RootDir>) -> Self {
        Self { layers: directories, data_only: Vec::new(), form: LayerForm::Fuse }
    }

    /// Adds directories below all others whose names are not shown: they are searched for the contents of files by the absolute path in the
    /// `redirect` attribute of a file above (data-only lower layers, Linux 6.5). Uppermost first.
    #[must_use]
    pub fn with_data_only(mut self, directories: Vec<RootDir>) -> Self {
        self.data_only = directories;
        self
    }

    /// How many directories there are, those for data only not counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.layers.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// The roots of the directories from the one numbered `first` on.
    ///
    /// # Errors
    /// The kind of the failed system call.
    pub(crate) fn roots(&self, first: usize) -> Result<Vec<LayerDir>> {
        (first..self.len()).map(|layer| self.root(layer)).collect()
    }

    fn root(&self, layer: usize) -> Result<LayerDir> {
        self.open(&Place { layer, path: Arc::from(&b""[..]) })
    }

    /// Opens the directory at `place`.
    ///
    /// # Errors
    /// The kind of the failed system call.
    pub(crate) fn open(&self, place: &Place) -> Result<LayerDir> {
        // O_NOFOLLOW: only real directories are merged, and each one above was seen to be one.
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let fd = self.layers[place.layer].open_at(as_path(&place.path), flags, Mode::empty())?;
        let failed = |errno| Error::syscall("flistxattr", as_path(&place.path), errno);
        let marks = self.form.marks(fd.as_fd()).map_err(failed)?;
        Ok(LayerDir { place: place.clone(), fd, xattr_whiteouts: marks.xattr_whiteouts, listing: None })
    }
}

impl fmt::Debug for LayerStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths = |roots: &[RootDir]| roots.iter().map(|root| root.path().to_owned()).collect::<Vec<_>>();
        f.debug_struct("LayerStack")
            .field("layers", &paths(&self.layers))
            .field("data_only", &paths(&self.data_only))
            .field("form", &self.form)
            .finish()
    }
}

/// Where a directory lies: the number of its layer in the stack, and its path there, without symbolic links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) layer: usize,
    pub(crate) path: Arc<[u8]>,
}

/// One of the directories that are merged at some path, held open.
#[derive(Debug)]
pub(crate) struct LayerDir {
    pub(crate) place: Place,
    pub(crate) fd: OwnedFd,
    /// Whether empty files with an attribute are whiteouts in it.
    pub(crate) xattr_whiteouts: bool,
    /// Its names, if they were read.
    pub(crate) listing: Option<Listing>,
}

impl AsFd for LayerDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
