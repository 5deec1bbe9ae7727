//! What a driver of whole trees brings; all that is the same for all of them is made of it.

use std::fmt;
use std::sync::Arc;

use graphdriver_archive::{ApplyOptions, Change, RootDir, WhiteoutMode};

use crate::driver::CreateOptions;
use crate::error::{Error, Result};
use crate::layer_id::LayerId;
use crate::powers::LayerApplyOptions;
use crate::sync_mode::SyncMode;

/// The opened home of a driver that keeps each layer as a whole tree; [`TreePowers`](super::TreePowers) makes the driver's optional powers of it.
pub trait TreeHome: fmt::Debug + Send + Sync + Sized + 'static {
    /// A layer in the making. Dropping it removes it.
    type Staged: StagedTree;

    /// How layers are filled in this home.
    fn filling(&self) -> Filling;

    /// Takes a reference to the layer, which cannot be removed before it is [given back](Self::release).
    ///
    /// # Errors
    /// `LayerUnknown` when there is no such layer; `Io`.
    fn acquire(&self, operation: &'static str, id: &LayerId, purpose: Purpose) -> Result<()>;

    /// Gives a reference back.
    ///
    /// # Errors
    /// `InvalidArgument` when there is none; `Io`.
    fn release(&self, id: &LayerId) -> Result<()>;

    /// The root directory of a layer to which a reference was taken that is not for [keeping](Purpose::Keep) it only.
    ///
    /// # Errors
    /// `LayerUnknown` when another program removed it; `Io`.
    fn open_layer(&self, operation: &'static str, id: &LayerId) -> Result<RootDir>;

    /// What differs in `layer` from `base`, sorted by path; `None` when nothing is known of this pair, and both are to be compared in full.
    ///
    /// # Errors
    /// `Io`.
    fn compare(&self, layer: Tree<'_>, base: Tree<'_>) -> Result<Option<Vec<Change>>>;

    /// Begins a layer: a copy of the parent in `options`, or an empty tree.
    ///
    /// # Errors
    /// `ParentUnknown`; as [`Driver::create`](crate::Driver::create). Nothing remains.
    fn begin(self: &Arc<Self>, options: &CreateOptions) -> Result<Self::Staged>;

    /// Says more of a failure to fill the existing layer: its limit.
    fn explain(&self, error: Error, layer: Tree<'_>) -> Error;
}

/// A layer in the making, out of sight.
pub trait StagedTree: fmt::Debug + Send + 'static {
    /// Its root directory.
    ///
    /// # Errors
    /// `Io`.
    fn open(&self) -> Result<RootDir>;

    /// Says more of a failure to fill the tree that is open as `root`: its limit.
    fn explain(&self, error: Error, root: &RootDir) -> Error;

    /// Makes it the layer `id`, atomically.
    ///
    /// # Errors
    /// `LayerExists`; `ParentUnknown` when the parent is gone meanwhile; `Io`. Nothing remains.
    fn publish(self, id: &LayerId) -> Result<()>;
}

/// A layer and its root directory.
#[derive(Clone, Copy, Debug)]
pub struct Tree<'a> {
    /// The layer's name.
    pub id: &'a LayerId,
    /// Its files.
    pub root: &'a RootDir,
}

/// What a reference to a layer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// That nobody removes the layer. It need not be mounted.
    Keep,
    /// Reading its files.
    Read,
    /// Changing its files.
    Write,
}

/// How archives become layers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filling {
    /// Keep the calling process's ids where an owner cannot be set.
    pub ignore_chown_errors: bool,
    /// Whether the process is in a user namespace other than the initial one.
    pub in_user_namespace: bool,
    /// Whether contents are flushed before a layer counts as complete.
    pub sync: SyncMode,
}

impl Filling {
    /// For [`archive::apply`](graphdriver_archive::apply): whiteouts are carried out, since the tree has the parent's files.
    pub fn options(self, options: &LayerApplyOptions) -> ApplyOptions {
        ApplyOptions {
            whiteouts: WhiteoutMode::Execute,
            id_maps: options.id_maps.clone(),
            ignore_chown_errors: options.ignore_chown_errors || self.ignore_chown_errors,
            force_mask: options.force_mask,
            in_user_namespace: self.in_user_namespace,
            digest: options.digest,
            ..ApplyOptions::default()
        }
    }

    /// Flushes what was filled, if that is wanted.
    pub(super) fn flush(self, root: &RootDir) -> Result<()> {
        self.sync.flush(root).map_err(|error| error.path(root.path()))
    }
}

/// A reference to a layer: while it lives, nobody removes the layer.
#[derive(Debug)]
#[must_use = "dropping the guard lets the layer be removed"]
pub struct Reference<H: TreeHome> {
    home: Arc<H>,
    id: LayerId,
}

impl<H: TreeHome> Reference<H> {
    /// # Errors
    /// `LayerUnknown` when there is no such layer; `Io`.
    pub fn take(home: &Arc<H>, operation: &'static str, id: &LayerId, purpose: Purpose) -> Result<Self> {
        home.acquire(operation, id, purpose)?;
        Ok(Self { home: Arc::clone(home), id: id.clone() })
    }

    /// Keeps the parent of a layer in the making.
    ///
    /// # Errors
    /// `ParentUnknown` when there is no such layer; `Io`.
    pub fn of_parent(home: &Arc<H>, parent: &LayerId) -> Result<Self> {
        Self::take(home, "create", parent, Purpose::Keep).map_err(|error| error.about_parent(parent))
    }

    /// With a reference to the layer, its root directory.
    ///
    /// # Errors
    /// `LayerUnknown` when there is no such layer; `Io`.
    pub fn open(
        home: &Arc<H>,
        operation: &'static str,
        id: &LayerId,
        purpose: Purpose,
    ) -> Result<(RootDir, Self)> {
        let reference = Self::take(home, operation, id, purpose)?;
        Ok((home.open_layer(operation, id)?, reference))
    }

    /// The layer.
    pub fn id(&self) -> &LayerId {
        &self.id
    }
}

impl<H: TreeHome> Drop for Reference<H> {
    fn drop(&mut self) {
        if let Err(error) = self.home.release(&self.id) {
            tracing::warn!(layer = %self.id, error = %error.report(), "give back reference");
        }
    }
}
