//! The contract between a driver and those who use it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use graphdriver_archive::{DiskUsage, IdMaps};

use crate::capabilities::{Capabilities, Feature};
use crate::error::{Error, ErrorKind, Result};
use crate::layer_id::LayerId;
use crate::powers::{AdditionalLayers, Dedup, FileGetter, IdShift, NativeDiff, StagedApply};
use crate::problem::Problem;

/// One way of keeping layers on disk.
///
/// A driver keeps its layers below a *home* directory (`<root>/<driver>`) in the layout that the Go drivers of the same name use. Users hold a
/// [`Graph`](crate::Graph), which adds guards and the naive diff; this trait is for those who write drivers.
///
/// # What every driver guarantees
/// - **Complete or absent.** A layer that [`exists`](Self::exists) was created completely. A process killed at any instruction leaves at most
///   temporary files, which the next opening of the home removes.
/// - **Several processes** may have one home open. What one does to a layer never breaks another's use of it: mounts are counted across processes, and a layer
///   that is mounted or has children cannot be removed.
/// - **Ids are never reused silently.** `create` of an existing id is `LayerExists` and changes nothing.
/// - All methods may be called from several threads at once.
/// - Errors name driver, layer, path, and what the kernel said.
///
/// Methods need the privilege to mount (root, or root of a user namespace) for drivers that mount; where a driver's home is owned by an ordinary user, only
/// [`create`](Self::create) of layers with that user's ids works without.
#[doc(alias = "ProtoDriver")]
#[doc(alias = "DiffDriver")]
#[doc(alias = "TemplateDriver")]
#[doc(alias = "CapabilityDriver")]
pub trait Driver: fmt::Debug + Send + Sync + 'static {
    /// The name, as in [`Registry`](crate::Registry) and as the home's directory.
    #[doc(alias = "String")]
    fn name(&self) -> &str;

    /// What this driver can do here; constant while it is open.
    fn capabilities(&self) -> Capabilities;

    /// Facts about driver and home for people, in a fixed order, under the names that the Go driver uses.
    ///
    /// # Errors
    /// `Io` when the home can no longer be asked.
    fn status(&self) -> Result<Vec<(String, String)>>;

    /// What kernel, file system and configuration offer, each with the reason where it is off. What was not needed before is found out now, which may take some
    /// milliseconds; what cannot be found out is off, with the failure as reason.
    fn features(&self) -> Vec<Feature>;

    /// The options in force by their keys, in a fixed order: those given and those that have a default. What cannot be had here is not among them.
    fn options(&self) -> Vec<(&'static str, String)>;

    /// Makes the empty layer `id` on `options.parent`.
    ///
    /// `ReadOnly` layers are meant to be filled by `apply`, `ReadWrite` ones to be mounted and written to; both kinds can be mounted.
    ///
    /// # Errors
    /// `LayerExists`; `ParentUnknown`; `InvalidArgument` for an option that this driver does not know, and for limits of a layer that is not `ReadWrite`; `NotSupported` for one that cannot be had here;
    /// `NoSpace`; `Io`. Nothing of the layer remains.
    #[doc(alias = "Create")]
    #[doc(alias = "CreateReadWrite")]
    fn create(&self, id: &LayerId, options: &CreateOptions) -> Result<()>;

    /// Makes the layer `id` with the contents of `template`; `options.parent` is the parent of `template`.
    ///
    /// The copy does not change when the template does, but the template may have to outlive it: then the copy counts as its child. Which one is parent of the copy is the driver's choice,
    /// told by [`parent`](Self::parent).
    ///
    /// # Errors
    /// As [`create`](Self::create); `ParentUnknown` for a missing template too.
    #[doc(alias = "CreateFromTemplate")]
    #[doc(alias = "NaiveCreateFromTemplate")]
    fn create_from_template(&self, id: &LayerId, template: &LayerId, options: &CreateOptions) -> Result<()>;

    /// Removes the layer and its contents. The layer is gone at once (renamed aside), its contents before the call returns.
    ///
    /// # Errors
    /// `LayerUnknown`; `LayerInUse` while it is mounted or is the parent of another layer, which the message names. After any other error the layer is gone or
    /// whole, and the next opening of the home finishes what was begun.
    fn remove(&self, id: &LayerId) -> Result<()>;

    /// Like [`remove`](Self::remove), but leaves the deletion of the contents to [`DeferredRemoval::finish`], for callers that hold a lock.
    ///
    /// # Errors
    /// As [`remove`](Self::remove).
    #[doc(alias = "DeferredRemove")]
    fn remove_deferred(&self, id: &LayerId) -> Result<DeferredRemoval>;

    /// Mounts the layer if it is not mounted yet, and takes one reference to the mount. Returns the absolute path of its root directory.
    ///
    /// Each call is balanced by one [`put`](Self::put). The first call's options decide how it is mounted. A reference belongs to this process and ends with it, unless
    /// `options.persistent`.
    ///
    /// # Errors
    /// `LayerUnknown`; `InvalidArgument` for mount options that the driver refuses; `NotSupported` and `PermissionDenied` with what to do about it; `Io` with the kernel's text.
    fn get(&self, id: &LayerId, options: &MountOptions) -> Result<PathBuf>;

    /// Gives one reference back: one of this process if it has any, else a persistent one. The last one unmounts.
    ///
    /// # Errors
    /// `LayerUnknown`; `InvalidArgument` when there is no reference to give back; `Io` when unmounting failed (the reference is given back all the same).
    fn put(&self, id: &LayerId) -> Result<()>;

    /// Whether the layer exists.
    ///
    /// # Errors
    /// `Io` when that cannot be found out.
    fn exists(&self, id: &LayerId) -> Result<bool>;

    /// All layers of this home, sorted by id; those of additional image stores are not among them.
    ///
    /// # Errors
    /// `Io`.
    #[doc(alias = "ListLayers")]
    fn layers(&self) -> Result<Vec<LayerId>>;

    /// The layer that `id` was created on; `None` when it has no parent, or the driver does not know.
    ///
    /// # Errors
    /// `LayerUnknown`; `Io`.
    fn parent(&self, id: &LayerId) -> Result<Option<LayerId>>;

    /// Low-level facts about one layer under the names that the Go driver uses: paths, datasets.
    ///
    /// # Errors
    /// `LayerUnknown`; `Io`.
    #[doc(alias = "GetMetadata")]
    fn metadata(&self, id: &LayerId) -> Result<BTreeMap<String, String>>;

    /// What the layer itself occupies, not counting its parents where they are stored apart.
    ///
    /// Bytes are apparent sizes and inodes those of the layer's files. Of a read-write layer where the driver can [limit](Capabilities::quota) layers, they are the file system's counters instead, without a walk:
    /// allocated space, and the inodes of all that is kept for the layer, which is what its limits apply to.
    ///
    /// # Errors
    /// `LayerUnknown`; `Io`.
    #[doc(alias = "ReadWriteDiskUsage")]
    fn usage(&self, id: &LayerId) -> Result<DiskUsage>;

    /// Unmounts what no process uses and removes temporary files of processes that are gone. Layers stay.
    ///
    /// # Errors
    /// `Io`; what could be cleaned is.
    fn cleanup(&self) -> Result<()>;

    /// Looks for what is amiss in the home: what killed processes left, notes that are lost or contradict each other, layers that lack a layer below, files that are
    /// nobody's. Contents of layers are not looked at. With `repair`, mends what can be mended without loss, and deletes only what is proved dead.
    ///
    /// Layers may be used, made and removed meanwhile.
    ///
    /// # Errors
    /// `Io`, `PermissionDenied` when the home cannot be looked at. A repair that fails is a [`Problem`] that says so.
    fn check(&self, repair: bool) -> Result<Vec<Problem>>;

    /// Roots of other, read-only homes whose layers can be used as parents and mounted.
    #[doc(alias = "AdditionalImageStores")]
    fn image_stores(&self) -> Vec<PathBuf>;

    /// Diff operations that this driver does better than the naive way, if it has any.
    fn native_diff(&self) -> Option<&dyn NativeDiff>;

    /// Changing the owners of a layer's files by maps, if the driver can.
    fn id_shift(&self) -> Option<&dyn IdShift>;

    /// Filling a layer before it exists, if the driver can.
    fn staged_apply(&self) -> Option<&dyn StagedApply>;

    /// Layers that another program provides, if the driver knows any.
    fn additional_layers(&self) -> Option<&dyn AdditionalLayers>;

    /// Reading files of a layer without mounting it, if the driver can.
    #[doc(alias = "DiffGetter")]
    fn file_getter(&self) -> Option<&dyn FileGetter>;

    /// Sharing equal files' blocks, if the driver can.
    fn dedup(&self) -> Option<&dyn Dedup>;
}

/// What a new layer is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LayerKind {
    /// Filled once, then a parent of others.
    #[default]
    ReadOnly,
    /// Mounted and written to; may have a quota.
    ReadWrite,
}

/// Upper limits for what may be written to a layer: everything that is kept for it counts, the few files and directories of the driver's own too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Bytes of allocated space, rounded up to the file system's units. `None` for what the driver's options say, zero for no limit.
    pub bytes: Option<u64>,
    /// Inodes. `None` for what the driver's options say, zero for no limit.
    pub inodes: Option<u64>,
}

impl Quota {
    /// Whether nothing is limited.
    pub fn is_unlimited(self) -> bool {
        [self.bytes, self.inodes].iter().all(|limit| limit.is_none_or(|limit| limit == 0))
    }

    /// These limits, and those of `defaults` where this has none.
    #[must_use]
    pub fn or(self, defaults: Self) -> Self {
        Self { bytes: self.bytes.or(defaults.bytes), inodes: self.inodes.or(defaults.inodes) }
    }
}

/// How a layer is created.
#[derive(Clone, Debug, Default)]
#[doc(alias = "CreateOpts")]
pub struct CreateOptions {
    /// The layer below; `None` for a base layer.
    pub parent: Option<LayerId>,
    /// What the layer is for.
    pub kind: LayerKind,
    /// Limits; only for `ReadWrite` layers.
    #[doc(alias = "StorageOpt")]
    pub quota: Quota,
    /// SELinux label for the files of the layer.
    #[doc(alias = "MountLabel")]
    pub label: Option<String>,
    /// The maps under which the layer will be used: its root directory is owned by their root.
    #[doc(alias = "IDMappings")]
    pub id_maps: IdMaps,
}

impl CreateOptions {
    /// A layer on `parent`, all else as by default.
    pub fn on(parent: &LayerId) -> Self {
        Self { parent: Some(parent.clone()), ..Self::default() }
    }

    /// The limits of the layer, those of `defaults` where it has none of its own; `None` for a layer that can have none.
    ///
    /// # Errors
    /// `InvalidArgument` for limits of a layer that is not read-write.
    pub fn limits(&self, defaults: Quota) -> Result<Option<Quota>> {
        match self.kind {
            LayerKind::ReadWrite => Ok(Some(self.quota.or(defaults))),
            LayerKind::ReadOnly if self.quota.is_unlimited() => Ok(None),
            LayerKind::ReadOnly => Err(Error::new(ErrorKind::InvalidArgument, "create")
                .detail("size and inodes can be limited for read-write layers only")),
        }
    }
}

/// How a layer is mounted.
#[derive(Clone, Debug, Default)]
#[doc(alias = "MountOpts")]
pub struct MountOptions {
    /// Nothing can be written through the mount.
    pub read_only: bool,
    /// Leave out all flushing for the upper layer (Linux 5.10); ignored where the kernel cannot.
    pub volatile: bool,
    /// SELinux label of all files of the mount.
    #[doc(alias = "MountLabel")]
    pub label: Option<String>,
    /// Show owners through these maps where the driver can.
    #[doc(alias = "UidMaps")]
    #[doc(alias = "GidMaps")]
    pub id_maps: IdMaps,
    /// Further mount options, as for `mount(8) -o`; each driver documents which it takes.
    #[doc(alias = "MountOpts.Options")]
    pub extra: Vec<String>,
    /// The reference outlives this process, until a [`put`](Driver::put) of any process gives it back.
    pub persistent: bool,
}

impl MountOptions {
    /// A read-only mount, all else as by default.
    pub fn read_only() -> Self {
        Self { read_only: true, ..Self::default() }
    }
}

/// The second half of [`Driver::remove_deferred`]: contents that are out of sight and still to be deleted.
///
/// Dropping it deletes too, and only logs a failure; what stays then goes at the next opening of the home.
#[must_use = "the contents of the layer are still on disk"]
#[doc(alias = "CleanupTempDirFunc")]
pub struct DeferredRemoval {
    delete: Option<Box<dyn FnOnce() -> Result<()> + Send>>,
}

impl DeferredRemoval {
    /// Contents that `delete` deletes.
    pub fn new(delete: impl FnOnce() -> Result<()> + Send + 'static) -> Self {
        Self { delete: Some(Box::new(delete)) }
    }

    /// Nothing is left to delete.
    pub fn done() -> Self {
        Self { delete: None }
    }

    /// Deletes the contents.
    ///
    /// # Errors
    /// `Io`; what stays goes at the next opening of the home.
    pub fn finish(mut self) -> Result<()> {
        self.delete.take().map_or(Ok(()), |delete| delete())
    }
}

impl Drop for DeferredRemoval {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.delete.take().map(|delete| delete()) {
            tracing::warn!(error = %error.report(), "contents of a removed layer stay until the home is opened again");
        }
    }
}

impl fmt::Debug for DeferredRemoval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeferredRemoval").field("pending", &self.delete.is_some()).finish()
    }
}
