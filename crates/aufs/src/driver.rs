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

use crate::draft::Draft;
use crate::home::{self, Home};
use crate::migrate::{self, Migrated};
use crate::reference::Reference;
use crate::{check, diff, fill, get, remove, status};

/// The driver for a [`Registry`](graphdriver_core::Registry): `aufs`.
pub const DRIVER: DriverEntry = DriverEntry {
    names: &["aufs"],
    automatic: true,
    probe: home::probe,
    open: |place| Ok(Arc::new(Aufs::open(place)?)),
};

/// Layers as directories that AUFS stacks.
///
/// Mounting needs `CAP_SYS_ADMIN` of the host, and a kernel with AUFS for layers that have others below them; what else there is needs neither, so that the layers of a home that
/// no kernel can mount any more can be had.
#[derive(Debug)]
pub struct Aufs {
    home: Arc<Home>,
}

impl Aufs {
    /// Opens a home, making it first if need be. A home that has layers opens without AUFS in the kernel, too.
    ///
    /// # Errors
    /// `InvalidArgument` for an option that is not known; `IncompatibleFs` on aufs, btrfs and ecryptfs; `NotSupported` in a user namespace, and for a new home without AUFS in the kernel; `NoSpace`; `PermissionDenied`; `Io`.
    #[doc(alias = "ErrAufsNotSupported")]
    pub fn open(place: &DriverHome) -> Result<Self> {
        Ok(Self { home: Arc::new(Home::open(place)?) })
    }

    /// Makes layers of what Docker before 0.7 kept below `path`, its root: `graph/<id>/layer` of images, parents first, and `containers/<id>/rw` of containers. Each directory becomes a branch by being renamed, or by a symbolic link to it
    /// where that is impossible. `repositories` becomes `repositories-aufs`.
    ///
    /// Below each container's layer comes a new one, `<id>-init`. `set_up_init` is given the directory of its branch, to make there what a container needs of an engine, and may be called again for one that is half
    /// made. What was moved before is not touched, so this can be interrupted and repeated at any time.
    ///
    /// # Errors
    /// `ParentUnknown` for an image without the one below it; `Io`, with both failures where something can neither be renamed nor linked; as `set_up_init`. What was moved until then stays moved.
    #[doc(alias = "Migrate")]
    pub fn migrate(&self, path: &Path, mut set_up_init: impl FnMut(&Path) -> Result<()>) -> Result<Migrated> {
        migrate::migrate(&self.home, path, &mut set_up_init)
    }
}

impl Driver for Aufs {
    fn name(&self) -> &'static str {
        "aufs"
    }

    fn capabilities(&self) -> Capabilities {
        status::capabilities()
    }

    fn status(&self) -> Result<Vec<(String, String)>> {
        status::status(&self.home)
    }

    fn features(&self) -> Vec<Feature> {
        status::features(&self.home)
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        let options = &self.home.options;
        let mount_options = options.mount_options.clone().map(|text| ("mountopt", text));
        mount_options.into_iter().chain([("sync", options.sync.to_string())]).collect()
    }

    fn create(&self, id: &LayerId, options: &CreateOptions) -> Result<()> {
        // Found before the work rather than after; publishing decides.
        if self.home.exists(id)? {
            return Err(Error::layer_exists("create", id));
        }
        Draft::new(&self.home, options)?.publish(id)
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
        Ok(self.home.ancestors("find parent of", id)?.into_iter().next())
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

impl NativeDiff for Aufs {
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

impl StagedApply for Aufs {
    fn stage(
        &self,
        create: &CreateOptions,
        tar: &mut dyn Read,
        options: &LayerApplyOptions,
    ) -> Result<Box<dyn StagedLayer>> {
        let mut draft = Draft::new(&self.home, create)?;
        draft.fill(tar, options)?;
        Ok(Box::new(draft))
    }

    fn stage_with(
        &self,
        create: &CreateOptions,
        differ: &mut dyn Differ,
        options: &LayerApplyOptions,
    ) -> Result<(Box<dyn StagedLayer>, DifferOutput)> {
        let mut draft = Draft::new(&self.home, create)?;
        let output = draft.fill_with(differ, options)?;
        Ok((Box::new(draft), output))
    }
}

impl IdShift for Aufs {
    /// Nothing but a copy of each name can have another owner here, and the names of one file would part.
    fn update_layer_id_map(&self, id: &LayerId, _to_container: &IdMaps, _to_host: &IdMaps) -> Result<()> {
        self.home.require("change owners of", id)?;
        Err(Error::new(ErrorKind::NotSupported, "change owners of")
            .layer(id)
            .detail("aufs doesn't support changing ID mappings"))
    }

    fn supports_shifting(&self, _maps: &IdMaps) -> bool {
        false
    }

    fn mount_detached(&self, _id: &LayerId, _maps: &IdMaps) -> Result<DetachedMount> {
        Err(Error::new(ErrorKind::NotSupported, "mount")
            .detail("aufs driver shows layers with the owners that the disk has"))
    }
}

impl FileGetter for Aufs {
    fn open_file(&self, id: &LayerId, path: &Path) -> Result<File> {
        let _reference = Reference::take(&self.home, "open file of", id)?;
        Ok(self.home.stack("open file of", id)?.open_file(path)?)
    }
}

impl Dedup for Aufs {
    fn dedup(&self, layers: &[LayerId], hash: DedupHash) -> Result<u64> {
        let mut references = Vec::new();
        let mut roots = Vec::new();
        for id in layers {
            references.push(Reference::take(&self.home, "deduplicate", id)?);
            roots.push(RootDir::open(self.home.diff(id))?);
        }
        Ok(archive::dedup(&roots, hash)?)
    }

    fn dedup_roots(&self, id: &LayerId) -> Result<Vec<PathBuf>> {
        self.home.require("deduplicate", id)?;
        Ok(vec![self.home.diff(id)])
    }
}
