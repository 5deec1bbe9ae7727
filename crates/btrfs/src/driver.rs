//! The driver as its users see it; what each method does is in the module that its body names.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graphdriver_archive as archive;
use graphdriver_core::{
    AdditionalLayers, Applied, Capabilities, Change, CreateOptions, Dedup, DedupHash, DeferredRemoval,
    DetachedMount, Differ, DifferOutput, DiskUsage, Driver, DriverEntry, DriverHome, Error, ErrorKind,
    Feature, FileGetter, IdMaps, IdShift, LayerApplyOptions, LayerDiff, LayerId, MountOptions, NativeDiff,
    Problem, Result, StagedApply, StagedLayer, trees,
};

use crate::home::{self, Home};
use crate::reference::Reference;
use crate::staged::Staged;
use crate::{check, dedup, diff, fill, get, remove, status};

/// The driver for a [`Registry`](graphdriver_core::Registry): `btrfs`.
pub const DRIVER: DriverEntry = DriverEntry {
    names: &["btrfs"],
    automatic: true,
    probe: home::probe,
    open: |place| Ok(Arc::new(Btrfs::open(place)?)),
};

/// Layers as subvolumes, made as snapshots of their parents'.
///
/// A layer that is mounted for writing is the subvolume itself; one that is [mounted read-only](MountOptions::read_only) is a bind mount of it, for which the process needs `CAP_SYS_ADMIN`. Mounts show no other owners than the disk has.
///
/// Layers that another program made in the same home can be used, and their parents are known.
#[derive(Debug)]
pub struct Btrfs {
    home: Arc<Home>,
}

impl Btrfs {
    /// Opens a home, making it first if need be.
    ///
    /// # Errors
    /// `InvalidArgument` for an option that is not known, or a limit that cannot be had; `IncompatibleFs` when the home would not be on btrfs; `NotSupported` before Linux 4.18; `NoSpace`;
    /// `PermissionDenied`; `Io`.
    pub fn open(place: &DriverHome) -> Result<Self> {
        Ok(Self { home: Arc::new(Home::open(place)?) })
    }
}

impl Driver for Btrfs {
    fn name(&self) -> &'static str {
        "btrfs"
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
        // Found before the snapshot rather than after; publishing decides.
        if self.home.layers.exists(id)? {
            return Err(Error::layer_exists("create", id));
        }
        Staged::new(&self.home, options)?.publish(id)
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
        self.home.layers.exists(id)
    }

    fn layers(&self) -> Result<Vec<LayerId>> {
        self.home.layers.list()
    }

    fn parent(&self, id: &LayerId) -> Result<Option<LayerId>> {
        self.home.parent("find parent of", id)
    }

    fn metadata(&self, id: &LayerId) -> Result<BTreeMap<String, String>> {
        status::metadata(&self.home, id)
    }

    fn usage(&self, id: &LayerId) -> Result<DiskUsage> {
        self.home.layers.with_layer("measure", id, |root| Ok(archive::disk_usage(root)?))
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

impl NativeDiff for Btrfs {
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
        fill::apply(&self.home, id, tar, options).map(Some)
    }
}

impl StagedApply for Btrfs {
    fn stage(
        &self,
        create: &CreateOptions,
        tar: &mut dyn Read,
        options: &LayerApplyOptions,
    ) -> Result<Box<dyn StagedLayer>> {
        let mut staged = Staged::new(&self.home, create)?;
        staged.fill(tar, options)?;
        Ok(Box::new(staged))
    }

    fn stage_with(
        &self,
        create: &CreateOptions,
        differ: &mut dyn Differ,
        options: &LayerApplyOptions,
    ) -> Result<(Box<dyn StagedLayer>, DifferOutput)> {
        let mut staged = Staged::new(&self.home, create)?;
        let output = staged.fill_with(differ, options)?;
        Ok((Box::new(staged), output))
    }
}

impl IdShift for Btrfs {
    fn update_layer_id_map(&self, id: &LayerId, to_container: &IdMaps, to_host: &IdMaps) -> Result<()> {
        let _reference = Reference::take(&self.home, "change owners of", id)?;
        let root = self.home.layers.open("change owners of", id)?;
        archive::chown_tree(&root, to_container, to_host)?;
        archive::chown_root(&root, to_container, to_host)?;
        Ok(())
    }

    fn supports_shifting(&self, _maps: &IdMaps) -> bool {
        false
    }

    fn mount_detached(&self, _id: &LayerId, _maps: &IdMaps) -> Result<DetachedMount> {
        Err(Error::new(ErrorKind::NotSupported, "mount")
            .detail("btrfs driver shows layers with the owners that the disk has"))
    }
}

impl FileGetter for Btrfs {
    fn open_file(&self, id: &LayerId, path: &Path) -> Result<File> {
        self.home.layers.with_layer("open file of", id, |root| trees::open_file(root, path))
    }
}

impl Dedup for Btrfs {
    fn dedup(&self, layers: &[LayerId], hash: DedupHash) -> Result<u64> {
        dedup::dedup(&self.home, layers, hash)
    }

    fn dedup_roots(&self, id: &LayerId) -> Result<Vec<PathBuf>> {
        self.home.layers.require("deduplicate", id)?;
        Ok(vec![self.home.layers.layer(id)])
    }
}
