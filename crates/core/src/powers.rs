//! Optional powers of drivers, each a trait of its own.
//!
//! A driver that lacks one returns `None` from its accessor on [`Driver`](crate::Driver); callers then take the general way or report `NotSupported`.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use graphdriver_archive::{Applied, Change, DedupHash, IdMaps};

use crate::detached_mount::DetachedMount;
use crate::differ::{Differ, DifferOutput};
use crate::driver::CreateOptions;
use crate::error::Result;
use crate::layer_diff::LayerDiff;
use crate::layer_id::LayerId;

/// Diff operations that a driver does better than mounting two layers and walking both.
///
/// `Ok(None)` means "not for this pair of layers, or not in this state": the caller then takes the naive way.
#[doc(alias = "DiffDriver")]
#[doc(alias = "Differ")]
#[doc(alias = "ApplyDiffProtoDriver")]
pub trait NativeDiff: Send + Sync {
    /// The change set of `id` against `base` as an uncompressed tar; the whole tree when `base` is `None`.
    ///
    /// # Errors
    /// `LayerUnknown`; `Io`.
    fn diff(&self, id: &LayerId, base: Option<&LayerId>, id_maps: &IdMaps) -> Result<Option<LayerDiff>>;

    /// What differs in `id` from `base`, sorted by path.
    ///
    /// # Errors
    /// `LayerUnknown`; `Io`.
    fn changes(&self, id: &LayerId, base: Option<&LayerId>) -> Result<Option<Vec<Change>>>;

    /// Bytes of the files that `id` has added or modified against `base`.
    ///
    /// # Errors
    /// `LayerUnknown`; `Io`.
    fn diff_size(&self, id: &LayerId, base: Option<&LayerId>) -> Result<Option<u64>>;

    /// Fills the existing layer `id` from an uncompressed tar. Nothing of `tar` has been read when the answer is `Ok(None)`.
    ///
    /// # Errors
    /// `LayerUnknown`; `InvalidArchive`; `PathEscape`; `NoSpace`; `Io`. An empty layer is empty again after an error.
    #[doc(alias = "ErrApplyDiffFallback")]
    fn apply(&self, id: &LayerId, tar: &mut dyn Read, options: &LayerApplyOptions)
    -> Result<Option<Applied>>;
}

/// How a layer is filled.
#[derive(Clone, Debug, Default)]
#[doc(alias = "ApplyDiffOpts")]
pub struct LayerApplyOptions {
    /// Owners in the archive are the container's; they are stored as these maps' host ids.
    #[doc(alias = "Mappings")]
    pub id_maps: IdMaps,
    /// Keep the calling process's ids where an owner cannot be set, in addition to the driver's own option of this name.
    pub ignore_chown_errors: bool,
    /// Mode for every file, the real one being noted in an xattr; see [`ApplyOptions`](graphdriver_archive::ApplyOptions::force_mask).
    pub force_mask: Option<u32>,
    /// Keep no record of the archive: no diff of the layer gives it back byte for byte. Drivers without [`exact_diffs`](crate::Capabilities::exact_diffs) keep none anyway.
    pub skip_record: bool,
    /// Tell the archive's digest ([`Applied::archive`]), also where no record is kept.
    pub digest: bool,
}

/// Filling a layer before it exists, without any lock, so that it appears complete or not at all.
#[doc(alias = "ApplyDiffStaging")]
pub trait StagedApply: Send + Sync {
    /// Unpacks `tar` as a layer on `create.parent`, out of sight.
    ///
    /// # Errors
    /// `ParentUnknown`; `InvalidArchive`; `PathEscape`; `NoSpace`; `Io`. Nothing remains.
    #[doc(alias = "StartStagingDiffToApply")]
    fn stage(
        &self,
        create: &CreateOptions,
        tar: &mut dyn Read,
        options: &LayerApplyOptions,
    ) -> Result<Box<dyn StagedLayer>>;

    /// Lets `differ` fill a layer on `create.parent`, out of sight, and returns what it said of it.
    ///
    /// # Errors
    /// `ParentUnknown`; `NoSpace`; `Io`; as the differ. Nothing remains.
    #[doc(alias = "DriverWithDiffer")]
    #[doc(alias = "ApplyDiffWithDiffer")]
    fn stage_with(
        &self,
        create: &CreateOptions,
        differ: &mut dyn Differ,
        options: &LayerApplyOptions,
    ) -> Result<(Box<dyn StagedLayer>, DifferOutput)>;
}

/// A filled layer without a name. Dropping it removes it; should the process be killed, the next opening of the home does.
#[must_use = "a staged layer that is not committed is removed"]
#[doc(alias = "StagedAddition")]
pub trait StagedLayer: fmt::Debug + Send {
    /// What unpacking did.
    fn applied(&self) -> Applied;

    /// Makes it the layer `id`, atomically.
    ///
    /// # Errors
    /// `LayerExists`; `ParentUnknown` when the parent is gone meanwhile; `Io`. Nothing remains.
    #[doc(alias = "CommitStagedLayer")]
    #[doc(alias = "ApplyDiffFromStagingDirectory")]
    fn commit(self: Box<Self>, id: &LayerId) -> Result<()>;
}

/// Changing and showing other owners than the disk has.
#[doc(alias = "LayerIDMapUpdater")]
pub trait IdShift: Send + Sync {
    /// Rewrites the owners of a layer that was just created and never mounted: from host ids of `to_container` to container ids to host ids of `to_host`.
    ///
    /// # Errors
    /// `LayerUnknown`; `InvalidArgument` for an owner without mapping; `Io`.
    #[doc(alias = "UpdateLayerIDMap")]
    fn update_layer_id_map(&self, id: &LayerId, to_container: &IdMaps, to_host: &IdMaps) -> Result<()>;

    /// Whether [`get`](crate::Driver::get) can show a layer's owners through `maps` without rewriting them.
    fn supports_shifting(&self, maps: &IdMaps) -> bool;

    /// Mounts the layer read-only, attached nowhere, for the caller alone, with all its owners shown through `maps`: those of its own files too, which
    /// [`get`](crate::Driver::get) shows as they are. For layers whose files have the container's ids on disk, as those of images do.
    ///
    /// There can be any number of such mounts of one layer at once, through different maps, beside the one that `get` makes. What is written through that one meanwhile is seen or not. That one, when it is given back
    /// meanwhile, stays until the last of these has ended.
    ///
    /// # Errors
    /// `LayerUnknown`; `NotSupported` where `supports_shifting` says no, or nothing can be mounted without a place; `InvalidArgument` for maps that the kernel refuses, and for a layer that has
    /// more layers below than can be stacked with it; `Io`.
    fn mount_detached(&self, id: &LayerId, maps: &IdMaps) -> Result<DetachedMount>;
}

/// Layers that another program provides below a store directory (stargz-store and the like).
#[doc(alias = "AdditionalLayerStoreDriver")]
pub trait AdditionalLayers: Send + Sync {
    /// The layer whose table of contents has this digest (`sha256:<hex>`), for the image `reference` (`docker.io/library/alpine:latest`).
    ///
    /// # Errors
    /// `LayerUnknown` when no store has it; `InvalidArgument` for what is no digest.
    #[doc(alias = "LookupAdditionalLayer")]
    fn lookup(&self, toc_digest: &str, reference: &str) -> Result<Box<dyn AdditionalLayer>>;

    /// What the layer `id` of the home was made from by [`create_as`](AdditionalLayer::create_as).
    ///
    /// # Errors
    /// `LayerUnknown` when there is no such layer, or it was not made so; `Io`.
    #[doc(alias = "LookupAdditionalLayerByID")]
    fn of_layer(&self, id: &LayerId) -> Result<Box<dyn AdditionalLayer>>;
}

/// One layer of an additional layer store, in use until dropped.
#[doc(alias = "Release")]
pub trait AdditionalLayer: fmt::Debug + Send {
    /// Makes a layer of the home from it, whose files stay where the other program shows them. They are only read: the layer is mounted read-only. Removing it tells the other program.
    ///
    /// # Errors
    /// As [`Driver::create`](crate::Driver::create).
    #[doc(alias = "CreateAs")]
    fn create_as(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<()>;

    /// The store's description of the layer (JSON).
    ///
    /// # Errors
    /// `Io`.
    fn info(&self) -> Result<File>;

    /// The layer's blob as the registry has it.
    ///
    /// # Errors
    /// `Io`.
    fn blob(&self) -> Result<File>;
}

/// Reading single files of a layer without mounting it.
#[doc(alias = "DiffGetterDriver")]
#[doc(alias = "FileGetCloser")]
pub trait FileGetter: Send + Sync {
    /// Opens the regular file `path` for reading, as the mounted layer would show it. `path` goes through no symbolic link.
    ///
    /// # Errors
    /// `LayerUnknown`; `Io` (`ENOENT` when the layer has no such file, `ELOOP` for a symbolic link, `EISDIR`).
    fn open_file(&self, id: &LayerId, path: &Path) -> Result<File>;
}

/// Sharing the blocks of equal files between layers (`FIDEDUPERANGE`, `ioctl_fideduperange(2)`).
pub trait Dedup: Send + Sync {
    /// Shares what is equal in and between the given layers; returns how many bytes are stored once less than before. Layers of additional stores are passed over. Where
    /// the file system cannot share blocks, nothing happens.
    ///
    /// # Errors
    /// `LayerUnknown`; `Io`.
    fn dedup(&self, layers: &[LayerId], hash: DedupHash) -> Result<u64>;

    /// The directories that are looked at for one layer.
    ///
    /// # Errors
    /// `LayerUnknown`.
    fn dedup_roots(&self, id: &LayerId) -> Result<Vec<PathBuf>>;
}
