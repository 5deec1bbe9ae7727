//! Directories of layers stacked on one another, looked at as a mount shows them.
//!
//! Follows what the kernel does ([overlayfs.rst](https://docs.kernel.org/filesystems/overlayfs.html)): whiteouts in both forms, opaque
//! directories, directories that were renamed (`redirect_dir`), files of which a layer has the metadata only (`metacopy`), and directories that
//! are searched for such files' contents alone. Nothing is mounted.

mod directory;
mod entry;
mod file;
mod level;
mod marks;
mod notes;
mod search;
mod walk;

use std::fmt;
use std::sync::Arc;

pub(crate) use self::directory::{LayerDir, Origin};
pub(crate) use self::entry::{Below, Entry, Purpose};
pub(crate) use self::marks::{LayerForm, Marks};
use self::notes::Notes;
pub(crate) use self::search::{Search, Shown};
pub(crate) use self::walk::LayerWalk;
use crate::error::Result;
use crate::root::RootDir;
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
    /// Of each layer, where there may be any.
    notes: Vec<Option<Notes>>,
}

impl LayerStack {
    /// Directories as the kernel's overlay stores them, uppermost first.
    pub fn overlay(directories: Vec<RootDir>, xattrs: OverlayXattrs) -> Self {
        Self {
            layers: directories,
            data_only: Vec::new(),
            form: LayerForm::Overlay(xattrs),
            notes: Vec::new(),
        }
    }

    /// Branches as AUFS stores them, uppermost first.
    pub fn aufs(branches: Vec<RootDir>) -> Self {
        Self { layers: branches, data_only: Vec::new(), form: LayerForm::Aufs, notes: Vec::new() }
    }

    /// Directories as fuse-overlayfs writes and reads them, uppermost first: marks in all forms that it knows; files that are meant to be something else
    /// than they are on disk (the attributes `user.containers.override_stat` and `user.fuseoverlayfs.override_stat`) as such.
    ///
    /// # Errors
    /// The kind of the failed system call.
    pub fn fuse_overlay(directories: Vec<RootDir>) -> Result<Self> {
        let notes = directories.iter().map(Notes::of_layer).collect::<Result<_>>()?;
        Ok(Self { layers: directories, data_only: Vec::new(), form: LayerForm::Fuse, notes })
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

    /// A tree that is no layer.
    pub(crate) fn plain(tree: RootDir) -> Self {
        Self { layers: vec![tree], data_only: Vec::new(), form: LayerForm::Plain, notes: Vec::new() }
    }

    pub(crate) fn form(&self) -> LayerForm {
        self.form
    }

    /// The roots of the directories from the one numbered `first` on.
    ///
    /// # Errors
    /// The kind of the failed system call.
    pub(crate) fn roots(&self, first: usize) -> Result<Vec<LayerDir>> {
        let open = |(index, layer)| {
            let mut root = self.root(layer)?;
            if index >= directory::KEPT_OPEN {
                root.close();
            }
            Ok(root)
        };
        (first..self.len()).enumerate().map(open).collect()
    }

    fn root(&self, layer: usize) -> Result<LayerDir> {
        LayerDir::open(self, Origin { layer, path: Arc::from(&b""[..]) })
    }
}

impl fmt::Debug for LayerStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths = |roots: &[RootDir]| roots.iter().map(|root| root.path().to_owned()).collect::<Vec<_>>();
        f.debug_struct("LayerStack")
            .field("layers", &paths(&self.layers))
            .field("data_only", &paths(&self.data_only))
            .field("form", &self.form)
            .field("notes", &self.notes)
            .finish()
    }
}
