//! The driver as its users see it; what each method does is in the module that its body names.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graphdriver_core::{
    AdditionalLayer, AdditionalLayers, Applied, Capabilities, Change, CreateOptions, Dedup, DedupHash,
    DeferredRemoval, DetachedMount, Differ, DifferOutput, DiskUsage, Driver, DriverEntry, DriverHome,
    Feature, FileGetter, IdMaps, IdShift, LayerApplyOptions, LayerDiff, LayerId, MountOptions, NativeDiff,
    Problem, Result, StagedApply, StagedLayer,
};

use crate::create::Draft;
use crate::home::{self, Home};
use crate::options::OverlayTuning;
use crate::{
    additional_layer, check, cleanup, dedup, diff, file_getter, fill, get, ids, lowers, remove, staged,
    status,
};

/// The driver for a [`Registry`](graphdriver_core::Registry): `overlay`, which also opens Docker's `overlay2` homes.
pub const DRIVER: DriverEntry = DriverEntry {
    names: &["overlay", "overlay2"],
    automatic: true,
    probe: home::probe,
    open: |place| Ok(Arc::new(Overlay::open(place)?)),
};

/// Layers as directories that the kernel's overlay file system stacks.
///
/// Needs `CAP_SYS_ADMIN`: root of the host, or (Linux 5.11) of a user namespace.
#[derive(Debug)]
pub struct Overlay {
    home: Arc<Home>,
}

impl Overlay {
    /// Opens a home, making it first if need be.
    ///
    /// # Errors
    /// `InvalidArgument` for an option that is not known; `IncompatibleFs` for a file system that cannot be below overlay; `NotSupported` when the kernel has no
    /// overlay; `Prerequisites` without the privilege to mount; `NoSpace`; `PermissionDenied`; `Io`.
    pub fn open(place: &DriverHome) -> Result<Self> {
        Self::open_with(place, OverlayTuning::default())
    }

    /// Like [`open`](Self::open), with choices made that the driver otherwise makes by itself.
    ///
    /// # Errors
    /// As [`open`](Self::open); also where the choice does not work here.
    pub fn open_with(place: &DriverHome, tuning: OverlayTuning) -> Result<Self> {
        Ok(Self { home: Arc::new(Home::open(place, tuning)?) })
    }
}

impl Driver for Overlay {
    fn name(&self) -> &'static str {
        "overlay"
    }

    fn capabilities(&self) -> Capabilities {
        status::capabilities(&self.home)
    }

    fn status(&self) -> Result<Vec<(String, String)>> {
        Ok(status::status(&self.home))
    }

    fn features(&self) -> Vec<Feature> {
        status::features(&self.home)
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        status::options(&self.home)
    }

    fn create(&self, id: &LayerId, options: &CreateOptions) -> Result<()> {
        self.home.stores.require_absent(id)?;
        Draft::new(&self.home, options)?.publish(&self.home, id)
    }

    fn create_from_template(&self, id: &LayerId, template: &LayerId, options: &CreateOptions) -> Result<()> {
        self.create(id, &CreateOptions { parent: Some(template.clone()), ..options.clone() })
    }

    fn remove(&self, id: &LayerId) -> Result<()> {
        self.remove_deferred(id)?.finish()
    }

    fn remove_deferred(&self, id: &LayerId) -> Result<DeferredRemoval> {
        remove::remove(&self.home, id)
    }

    fn get(&self, id: &LayerId, options: &MountOptions) -> Result<PathBuf> {
        get::get(&self.home, id, options)
    }

    fn put(&self, id: &LayerId) -> Result<()> {
        get::put(&self.home, id)
    }

    fn exists(&self, id: &LayerId) -> Result<bool> {
        Ok(self.home.stores.find(id)?.is_some())
    }

    fn layers(&self) -> Result<Vec<LayerId>> {
        Ok(self.home.stores.layers()?.iter().map(|layer| layer.id().clone()).collect())
    }

    fn parent(&self, id: &LayerId) -> Result<Option<LayerId>> {
        let layer = self.home.stores.require("find parent of", id)?;
        Ok(lowers::parent(&self.home.stores, &layer)?.map(|parent| parent.id().clone()))
    }

    fn metadata(&self, id: &LayerId) -> Result<BTreeMap<String, String>> {
        status::metadata(&self.home, id)
    }

    fn usage(&self, id: &LayerId) -> Result<DiskUsage> {
        status::usage(&self.home, id)
    }

    fn cleanup(&self) -> Result<()> {
        cleanup::cleanup(&self.home)
    }

    fn check(&self, repair: bool) -> Result<Vec<Problem>> {
        check::check(&self.home, repair)
    }

    fn image_stores(&self) -> Vec<PathBuf> {
        self.home.options.image_stores.clone()
    }

    fn native_diff(&self) -> Option<&dyn NativeDiff> {
        Some(self)
    }

    fn id_shift(&self) -> Option<&dyn IdShift> {
        Some(self)
    }

    fn staged_apply(&self) -> Option<&dyn StagedApply> {
        Some(self)
    }

    fn additional_layers(&self) -> Option<&dyn AdditionalLayers> {
        if self.home.options.layer_stores.is_empty() { None } else { Some(self) }
    }

    fn file_getter(&self) -> Option<&dyn FileGetter> {
        Some(self)
    }

    fn dedup(&self) -> Option<&dyn Dedup> {
        Some(self)
    }
}

impl NativeDiff for Overlay {
    fn diff(&self, id: &LayerId, base: Option<&LayerId>, id_maps: &IdMaps) -> Result<Option<LayerDiff>> {
        diff::diff(&self.home, id, base, id_maps)
    }

    fn changes(&self, id: &LayerId, base: Option<&LayerId>) -> Result<Option<Vec<Change>>> {
        diff::changes(&self.home, id, base)
    }

    fn diff_size(&self, id: &LayerId, base: Option<&LayerId>) -> Result<Option<u64>> {
        diff::diff_size(&self.home, id, base)
    }

    fn apply(
        &self,
        id: &LayerId,
        tar: &mut dyn Read,
        options: &LayerApplyOptions,
    ) -> Result<Option<Applied>> {
        fill::apply(&self.home, id, tar, options)
    }
}

impl IdShift for Overlay {
    fn update_layer_id_map(&self, id: &LayerId, to_container: &IdMaps, to_host: &IdMaps) -> Result<()> {
        ids::update(&self.home, id, to_container, to_host)
    }

    fn supports_shifting(&self, maps: &IdMaps) -> bool {
        ids::supports_shifting(&self.home, maps)
    }

    fn mount_detached(&self, id: &LayerId, maps: &IdMaps) -> Result<DetachedMount> {
        ids::mount_detached(&self.home, id, maps)
    }
}

impl StagedApply for Overlay {
    fn stage(
        &self,
        create: &CreateOptions,
        tar: &mut dyn Read,
        options: &LayerApplyOptions,
    ) -> Result<Box<dyn StagedLayer>> {
        Ok(Box::new(staged::stage(&self.home, create, tar, options)?))
    }

    fn stage_with(
        &self,
        create: &CreateOptions,
        differ: &mut dyn Differ,
        options: &LayerApplyOptions,
    ) -> Result<(Box<dyn StagedLayer>, DifferOutput)> {
        let (staged, output) = staged::stage_with(&self.home, create, differ, options)?;
        Ok((Box::new(staged), output))
    }
}

impl FileGetter for Overlay {
    fn open_file(&self, id: &LayerId, path: &Path) -> Result<File> {
        file_getter::open_file(&self.home, id, path)
    }
}

impl Dedup for Overlay {
    fn dedup(&self, layers: &[LayerId], hash: DedupHash) -> Result<u64> {
        dedup::dedup(&self.home, layers, hash)
    }

    fn dedup_roots(&self, id: &LayerId) -> Result<Vec<PathBuf>> {
        dedup::roots(&self.home, id)
    }
}

impl AdditionalLayers for Overlay {
    fn lookup(&self, toc_digest: &str, reference: &str) -> Result<Box<dyn AdditionalLayer>> {
        Ok(Box::new(additional_layer::lookup(&self.home, toc_digest, reference)?))
    }

    fn of_layer(&self, id: &LayerId) -> Result<Box<dyn AdditionalLayer>> {
        Ok(Box::new(additional_layer::of_layer(&self.home, id)?))
    }
}
