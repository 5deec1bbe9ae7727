//! The driver as its users see it; what each method does is in the module that its body names.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graphdriver_archive::{self as archive, RootDir};
use graphdriver_core::{
    AdditionalLayers, Applied, Capabilities, Change, CreateOptions, Dedup, DedupHash, DeferredRemoval,
    DetachedMount, Differ, DifferOutput, DiskUsage, Driver, DriverEntry, DriverHome, Error, ErrorKind,
    Feature, FileGetter, IdMaps, IdShift, LayerApplyOptions, LayerDiff, LayerId, MountOptions, NativeDiff,
    Problem, Result, StagedApply, StagedLayer,
};

use super::draft::Draft;
use super::home::{self, Home};
use super::reference::Reference;
use super::{check, diff, fill, get, ids, remove, status};

/// The driver for a [`Registry`](graphdriver_core::Registry): `overlay-hardlink`. Never chosen while another would do: it is for the layers that are there.
pub const DRIVER: DriverEntry = DriverEntry {
    names: &["overlay-hardlink"],
    automatic: false,
    probe: home::probe,
    open: |place| Ok(Arc::new(HardLinkOverlay::open(place)?)),
};

/// Layers as the driver `overlay` of Docker 1.4 to 23 keeps them: trees that share files by hard links, and one upper directory on a tree for a layer that is written to.
///
/// The home is the root's directory `overlay` where that holds such layers, and `overlay-hardlink` otherwise. Needs `CAP_SYS_ADMIN`: root of the host, or (Linux 5.11) of a user namespace. A filled layer that is
/// mounted for writing becomes a full copy first, because its files are other layers' too.
#[derive(Debug)]
pub struct HardLinkOverlay {
    home: Arc<Home>,
}

impl HardLinkOverlay {
    /// Opens a home, making it first if need be.
    ///
    /// # Errors
    /// `InvalidArgument` for an option that is not known, and where the directory is a home of the driver `overlay`; `IncompatibleFs` for a file system that cannot be below overlay, for btrfs, nfs and zfs; `NotSupported`
    /// when the kernel has no overlay; `Prerequisites` without the privilege to mount; `NoSpace`; `PermissionDenied`; `Io`.
    pub fn open(place: &DriverHome) -> Result<Self> {
        Ok(Self { home: Arc::new(Home::open(place)?) })
    }
}

impl Driver for HardLinkOverlay {
    fn name(&self) -> &'static str {
        "overlay-hardlink"
    }

    fn capabilities(&self) -> Capabilities {
        status::capabilities(&self.home)
    }

    fn status(&self) -> Result<Vec<(String, String)>> {
        Ok(status::status(&self.home))
    }

    fn features(&self) -> Vec<Feature> {
        status::features()
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        vec![("sync", self.home.sync.to_string())]
    }

    fn create(&self, id: &LayerId, options: &CreateOptions) -> Result<()> {
        // Found before the work rather than after; publishing decides.
        if self.home.exists(id)? {
            return Err(Error::layer_exists("create", id));
        }
        Draft::on_parent(&self.home, options)?.publish(id)
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
        self.home.exists(id)
    }

    fn layers(&self) -> Result<Vec<LayerId>> {
        self.home.list()
    }

    fn parent(&self, id: &LayerId) -> Result<Option<LayerId>> {
        self.home.parent("find parent of", id)
    }

    fn metadata(&self, id: &LayerId) -> Result<BTreeMap<String, String>> {
        status::metadata(&self.home, id)
    }

    fn usage(&self, id: &LayerId) -> Result<DiskUsage> {
        status::usage(&self.home, id)
    }

    fn cleanup(&self) -> Result<()> {
        self.home.clean_up()
    }

    fn check(&self, repair: bool) -> Result<Vec<Problem>> {
        check::check(&self.home, repair)
    }

    fn image_stores(&self) -> Vec<PathBuf> {
        Vec::new()
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
        None
    }

    fn file_getter(&self) -> Option<&dyn FileGetter> {
        Some(self)
    }

    fn dedup(&self) -> Option<&dyn Dedup> {
        Some(self)
    }
}

impl NativeDiff for HardLinkOverlay {
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

impl StagedApply for HardLinkOverlay {
    fn stage(
        &self,
        create: &CreateOptions,
        tar: &mut dyn Read,
        options: &LayerApplyOptions,
    ) -> Result<Box<dyn StagedLayer>> {
        let mut draft = Draft::tree(&self.home, create)?;
        draft.fill(tar, options)?;
        Ok(Box::new(draft))
    }

    fn stage_with(
        &self,
        create: &CreateOptions,
        differ: &mut dyn Differ,
        options: &LayerApplyOptions,
    ) -> Result<(Box<dyn StagedLayer>, DifferOutput)> {
        let mut draft = Draft::tree(&self.home, create)?;
        let output = draft.fill_with(differ, options)?;
        Ok((Box::new(draft), output))
    }
}

impl IdShift for HardLinkOverlay {
    fn update_layer_id_map(&self, id: &LayerId, to_container: &IdMaps, to_host: &IdMaps) -> Result<()> {
        ids::update(&self.home, id, to_container, to_host)
    }

    fn supports_shifting(&self, _maps: &IdMaps) -> bool {
        false
    }

    fn mount_detached(&self, _id: &LayerId, _maps: &IdMaps) -> Result<DetachedMount> {
        Err(Error::new(ErrorKind::NotSupported, "mount")
            .detail("overlay-hardlink driver shows layers with the owners that the disk has"))
    }
}

impl FileGetter for HardLinkOverlay {
    fn open_file(&self, id: &LayerId, path: &Path) -> Result<File> {
        let _reference = Reference::take(&self.home, "open file of", id)?;
        let (layer, form) = self.home.require("open file of", id)?;
        Ok(self.home.stack(&layer, form)?.open_file(path)?)
    }
}

impl Dedup for HardLinkOverlay {
    fn dedup(&self, layers: &[LayerId], hash: DedupHash) -> Result<u64> {
        let mut references = Vec::new();
        let mut roots = Vec::new();
        for id in layers {
            references.push(Reference::take(&self.home, "deduplicate", id)?);
            let (layer, form) = self.home.require("deduplicate", id)?;
            roots.push(RootDir::open(layer.contents(form))?);
        }
        Ok(archive::dedup(&roots, hash)?)
    }

    fn dedup_roots(&self, id: &LayerId) -> Result<Vec<PathBuf>> {
        let (layer, form) = self.home.require("deduplicate", id)?;
        Ok(vec![layer.contents(form)])
    }
}
