//! What callers hold: an opened driver with guards and the general ways of doing things.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graphdriver_archive::{Applied, Change, DedupHash, DiskUsage, IdMaps};

use crate::capabilities::{Capabilities, Feature};
use crate::detached_mount::DetachedMount;
use crate::driver::{CreateOptions, DeferredRemoval, Driver, MountOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::layer_diff::LayerDiff;
use crate::layer_id::LayerId;
use crate::mount::{Mount, with_names};
use crate::naive;
use crate::powers::LayerApplyOptions;
use crate::problem::Problem;

/// The layers of one home, through the driver that keeps them. Cloning shares the driver.
///
/// Methods that change or read one layer forward to the [`Driver`], whose documentation says what they do; errors name driver and layer.
#[derive(Clone, Debug)]
pub struct Graph {
    driver: Arc<dyn Driver>,
}

impl Graph {
    /// The layers that `driver` keeps.
    #[doc(alias = "NewNaiveDiffDriver")]
    pub fn new(driver: Arc<dyn Driver>) -> Self {
        Self { driver }
    }

    /// The driver, for its optional powers.
    pub fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }

    /// The driver's name.
    pub fn name(&self) -> &str {
        self.driver.name()
    }

    /// What the driver can do here.
    pub fn capabilities(&self) -> Capabilities {
        self.driver.capabilities()
    }

    /// See [`Driver::status`].
    ///
    /// # Errors
    /// As [`Driver::status`].
    pub fn status(&self) -> Result<Vec<(String, String)>> {
        self.driver.status().map_err(|error| error.driver(self.name()))
    }

    /// See [`Driver::features`].
    pub fn features(&self) -> Vec<Feature> {
        self.driver.features()
    }

    /// See [`Driver::options`].
    pub fn options(&self) -> Vec<(&'static str, String)> {
        self.driver.options()
    }

    /// See [`Driver::create`].
    ///
    /// # Errors
    /// As [`Driver::create`].
    pub fn create(&self, id: &LayerId, options: &CreateOptions) -> Result<()> {
        self.driver.create(id, options).map_err(|error| with_names(error, &*self.driver, id))
    }

    /// See [`Driver::create_from_template`].
    ///
    /// # Errors
    /// As [`Driver::create_from_template`].
    pub fn create_from_template(
        &self,
        id: &LayerId,
        template: &LayerId,
        options: &CreateOptions,
    ) -> Result<()> {
        let created = self.driver.create_from_template(id, template, options);
        created.map_err(|error| with_names(error, &*self.driver, id))
    }

    /// Creates the layer `id` and fills it from an uncompressed tar, in one step as seen from outside: when this fails there is no such layer.
    ///
    /// Drivers with [`StagedApply`](crate::StagedApply) keep the layer out of sight until it is complete; with the others a process that is killed half-way leaves an incomplete layer.
    ///
    /// # Errors
    /// As [`Driver::create`] and [`apply`](Self::apply).
    pub fn create_filled(
        &self,
        id: &LayerId,
        create: &CreateOptions,
        tar: &mut dyn Read,
        options: &LayerApplyOptions,
    ) -> Result<Applied> {
        let named = |error| with_names(error, &*self.driver, id);
        if let Some(staged_apply) = self.driver.staged_apply() {
            // Found before the work rather than after; commit decides.
            if self.exists(id)? {
                return Err(named(Error::layer_exists("create", id)));
            }
            let staged = staged_apply.stage(create, tar, options).map_err(named)?;
            let applied = staged.applied();
            staged.commit(id).map_err(named)?;
            return Ok(applied);
        }
        self.create(id, create)?;
        self.apply(id, tar, options).inspect_err(|_| {
            if let Err(error) = self.remove(id) {
                tracing::warn!(error = %error.report(), "a layer that could not be filled stays");
            }
        })
    }

    /// Fills the existing layer `id` from an uncompressed tar, reading `tar` to its end.
    ///
    /// # Errors
    /// `LayerUnknown`; `InvalidArchive` and `PathEscape` naming the entry; `NoSpace`; `Io`. A layer that was empty is empty again after an error where the driver applies
    /// natively; otherwise what was unpacked until then stays.
    #[doc(alias = "ApplyDiff")]
    #[doc(alias = "NaiveDiffDriverWithApply")]
    pub fn apply(&self, id: &LayerId, tar: &mut dyn Read, options: &LayerApplyOptions) -> Result<Applied> {
        let named = |error| with_names(error, &*self.driver, id);
        if let Some(native) = self.driver.native_diff()
            && let Some(applied) = native.apply(id, tar, options).map_err(named)?
        {
            return Ok(applied);
        }
        naive::apply(self, id, tar, options).map_err(named)
    }

    /// The change set of `id` against `base` as an uncompressed tar; the whole tree when `base` is `None`.
    ///
    /// Any pair of layers is legal; `base` need not be the parent. Whiteouts are in AUFS form, owners are mapped to container ids by `id_maps`.
    ///
    /// # Errors
    /// `LayerUnknown`; `Io`. Failures while reading come out of the stream.
    #[doc(alias = "Diff")]
    pub fn diff(&self, id: &LayerId, base: Option<&LayerId>, id_maps: &IdMaps) -> Result<LayerDiff> {
        let named = |error| with_names(error, &*self.driver, id);
        if let Some(native) = self.driver.native_diff()
            && let Some(diff) = native.diff(id, base, id_maps).map_err(named)?
        {
            return Ok(diff.of(self.driver.name(), id));
        }
        let diff = naive::diff(self, id, base, id_maps).map_err(named)?;
        Ok(diff.of(self.driver.name(), id))
    }

    /// What differs in `id` from `base`, sorted by path; everything is an addition when `base` is `None`.
    ///
    /// # Errors
    /// `LayerUnknown`; `Io`.
    #[doc(alias = "Changes")]
    pub fn changes(&self, id: &LayerId, base: Option<&LayerId>) -> Result<Vec<Change>> {
        let named = |error| with_names(error, &*self.driver, id);
        if let Some(native) = self.driver.native_diff()
            && let Some(changes) = native.changes(id, base).map_err(named)?
        {
            return Ok(changes);
        }
        naive::changes(self, id, base).map_err(named)
    }

    /// Bytes of the files that `id` added or modified against `base`; each hard-linked file once.
    ///
    /// # Errors
    /// `LayerUnknown`; `Io`.
    #[doc(alias = "DiffSize")]
    pub fn diff_size(&self, id: &LayerId, base: Option<&LayerId>) -> Result<u64> {
        let named = |error| with_names(error, &*self.driver, id);
        if let Some(native) = self.driver.native_diff()
            && let Some(bytes) = native.diff_size(id, base).map_err(named)?
        {
            return Ok(bytes);
        }
        naive::diff_size(self, id, base).map_err(named)
    }

    /// Mounts the layer.
    ///
    /// # Errors
    /// As [`Driver::get`].
    #[doc(alias = "Get")]
    pub fn mount(&self, id: &LayerId, options: &MountOptions) -> Result<Mount> {
        Mount::new(Arc::clone(&self.driver), id, options)
    }

    /// Gives back a reference that [`Mount::keep`] left behind, in this process or another.
    ///
    /// # Errors
    /// As [`Driver::put`].
    #[doc(alias = "Put")]
    pub fn unmount(&self, id: &LayerId) -> Result<()> {
        self.driver.put(id).map_err(|error| with_names(error, &*self.driver, id))
    }

    /// See [`Driver::remove`].
    ///
    /// # Errors
    /// As [`Driver::remove`].
    pub fn remove(&self, id: &LayerId) -> Result<()> {
        self.driver.remove(id).map_err(|error| with_names(error, &*self.driver, id))
    }

    /// See [`Driver::remove_deferred`].
    ///
    /// # Errors
    /// As [`Driver::remove_deferred`].
    pub fn remove_deferred(&self, id: &LayerId) -> Result<DeferredRemoval> {
        self.driver.remove_deferred(id).map_err(|error| with_names(error, &*self.driver, id))
    }

    /// See [`Driver::exists`].
    ///
    /// # Errors
    /// As [`Driver::exists`].
    pub fn exists(&self, id: &LayerId) -> Result<bool> {
        self.driver.exists(id).map_err(|error| with_names(error, &*self.driver, id))
    }

    /// See [`Driver::layers`].
    ///
    /// # Errors
    /// As [`Driver::layers`].
    pub fn layers(&self) -> Result<Vec<LayerId>> {
        self.driver.layers().map_err(|error| error.driver(self.name()))
    }

    /// See [`Driver::parent`].
    ///
    /// # Errors
    /// As [`Driver::parent`].
    pub fn parent(&self, id: &LayerId) -> Result<Option<LayerId>> {
        self.driver.parent(id).map_err(|error| with_names(error, &*self.driver, id))
    }

    /// See [`Driver::metadata`].
    ///
    /// # Errors
    /// As [`Driver::metadata`].
    pub fn metadata(&self, id: &LayerId) -> Result<BTreeMap<String, String>> {
        self.driver.metadata(id).map_err(|error| with_names(error, &*self.driver, id))
    }

    /// See [`Driver::usage`].
    ///
    /// # Errors
    /// As [`Driver::usage`].
    pub fn usage(&self, id: &LayerId) -> Result<DiskUsage> {
        self.driver.usage(id).map_err(|error| with_names(error, &*self.driver, id))
    }

    /// See [`Driver::cleanup`].
    ///
    /// # Errors
    /// As [`Driver::cleanup`].
    pub fn cleanup(&self) -> Result<()> {
        self.driver.cleanup().map_err(|error| error.driver(self.name()).advise())
    }

    /// See [`Driver::check`].
    ///
    /// # Errors
    /// As [`Driver::check`].
    pub fn check(&self, repair: bool) -> Result<Vec<Problem>> {
        self.driver.check(repair).map_err(|error| error.driver(self.name()))
    }

    /// See [`Driver::image_stores`].
    pub fn image_stores(&self) -> Vec<PathBuf> {
        self.driver.image_stores()
    }

    /// Opens the file `path` of the layer for reading, without mounting the layer where the driver can do that; see [`FileGetter`](crate::FileGetter).
    ///
    /// # Errors
    /// As [`FileGetter::open_file`](crate::FileGetter::open_file); `NotSupported` when the driver cannot.
    #[doc(alias = "DiffGetter")]
    pub fn open_file(&self, id: &LayerId, path: &Path) -> Result<File> {
        let named = |error| with_names(error, &*self.driver, id);
        let Some(getter) = self.driver.file_getter() else {
            return Err(named(Error::new(ErrorKind::NotSupported, "open file")));
        };
        getter.open_file(id, path).map_err(named)
    }

    /// Lets equal files of the layers share their blocks; returns how many bytes are stored once less than before. See [`Dedup`](crate::Dedup).
    ///
    /// # Errors
    /// `LayerUnknown`; `NotSupported` when the driver cannot; otherwise as the driver says.
    #[doc(alias = "DedupArgs")]
    #[doc(alias = "DedupResult")]
    pub fn dedup(&self, layers: &[LayerId], hash: DedupHash) -> Result<u64> {
        let named = |error: Error| error.driver(self.name());
        let Some(dedup) = self.driver.dedup() else {
            return Err(named(Error::new(ErrorKind::NotSupported, "deduplicate")));
        };
        dedup.dedup(layers, hash).map_err(named)
    }

    /// Rewrites the owners of a layer that was just created; see [`IdShift`](crate::IdShift::update_layer_id_map).
    ///
    /// # Errors
    /// `NotSupported` when the driver cannot; otherwise as the driver says.
    #[doc(alias = "UpdateLayerIDMap")]
    pub fn update_layer_id_map(&self, id: &LayerId, to_container: &IdMaps, to_host: &IdMaps) -> Result<()> {
        let named = |error| with_names(error, &*self.driver, id);
        let Some(shift) = self.driver.id_shift() else {
            return Err(named(Error::new(ErrorKind::NotSupported, "change owners")));
        };
        shift.update_layer_id_map(id, to_container, to_host).map_err(named)
    }

    /// A mount of the layer for the caller alone, with all owners shown through `maps`; see [`IdShift::mount_detached`](crate::IdShift::mount_detached).
    ///
    /// # Errors
    /// `NotSupported` when the driver cannot; otherwise as the driver says.
    pub fn mount_detached(&self, id: &LayerId, maps: &IdMaps) -> Result<DetachedMount> {
        let named = |error| with_names(error, &*self.driver, id);
        let Some(shift) = self.driver.id_shift() else {
            return Err(named(Error::new(ErrorKind::NotSupported, "mount")));
        };
        shift.mount_detached(id, maps).map_err(named)
    }
}
