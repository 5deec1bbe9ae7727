//! The driver as its users see it; what each method does is in the module that its body names.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graphdriver_core::trees::{Purpose, Reference, TreePowers, open_file};
use graphdriver_core::{
    AdditionalLayers, Capabilities, CreateOptions, Dedup, DedupHash, DeferredRemoval, DiskUsage, Driver,
    DriverEntry, DriverHome, Feature, FileGetter, IdShift, LayerId, MountOptions, NativeDiff, Problem,
    Result, StagedApply,
};

use crate::home::Home;
use crate::options::ZfsTuning;
use crate::staged::open_aside;
use crate::{check, get, remove, status, sweep};

/// The driver for a [`Registry`](graphdriver_core::Registry): `zfs`.
pub const DRIVER: DriverEntry = DriverEntry {
    names: &["zfs"],
    automatic: true,
    probe: Home::probe,
    open: |place| Ok(Arc::new(Zfs::open(place)?)),
};

/// Layers as datasets of ZFS, each a clone of its parent's.
///
/// The programs `zfs` and `zpool` are run for everything but mounts; with the feature `libzfs`, some questions are asked in process. Layers that a Go driver made below the same parent dataset are layers here too, with their parents.
#[derive(Debug)]
pub struct Zfs {
    home: Arc<Home>,
    powers: TreePowers<Home>,
}

impl Zfs {
    /// Opens a home, making it first if need be, and removes what killed processes left.
    ///
    /// # Errors
    /// `Prerequisites` without ZFS in the kernel or without its programs; `IncompatibleFs` for a home that is on another file system, when no dataset is named; `InvalidArgument` for an option that is not known,
    /// and for a named dataset that there is not; `NoSpace`; `PermissionDenied`; `Io`.
    pub fn open(place: &DriverHome) -> Result<Self> {
        Self::open_with(place, ZfsTuning::default())
    }

    /// Like [`open`](Self::open), with a choice made.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(place: &DriverHome, tuning: ZfsTuning) -> Result<Self> {
        let home = Arc::new(Home::open(place, tuning)?);
        Ok(Self { powers: TreePowers::new(&home), home })
    }
}

impl Driver for Zfs {
    fn name(&self) -> &'static str {
        "zfs"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            native_diff: true,
            native_apply: true,
            staged_apply: true,
            quota: true,
            reflink: true,
            ..Capabilities::default()
        }
    }

    fn status(&self) -> Result<Vec<(String, String)>> {
        status::status(&self.home)
    }

    fn features(&self) -> Vec<Feature> {
        vec![Feature::on("native_diff"), self.home.pool.library.feature()]
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        let mut options = vec![("fsname", self.home.pool.parent.to_string())];
        let mount = self.home.options.mount.to_string();
        if !mount.is_empty() {
            options.push(("mountopt", mount));
        }
        if let Some(bytes) = self.home.options.quota.bytes {
            options.push(("size", bytes.to_string()));
        }
        options
    }

    fn create(&self, id: &LayerId, options: &CreateOptions) -> Result<()> {
        // Where the name is refused, nothing is made.
        self.home.dataset(id)?;
        self.powers.create(id, options)
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
        get::mount(&self.home, "mount", id, options)
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
        let dataset = self.home.require("find parent of", id)?;
        self.home.parent(&dataset)
    }

    fn metadata(&self, id: &LayerId) -> Result<BTreeMap<String, String>> {
        status::metadata(&self.home, id)
    }

    fn usage(&self, id: &LayerId) -> Result<DiskUsage> {
        status::usage(&self.home, id)
    }

    fn cleanup(&self) -> Result<()> {
        let recovered = self.home.temp_dirs.recover();
        recovered.and(sweep::sweep(&self.home)).and(get::unmount_abandoned(&self.home))
    }

    fn check(&self, repair: bool) -> Result<Vec<Problem>> {
        check::check(&self.home, repair)
    }

    fn image_stores(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    fn native_diff(&self) -> Option<&dyn NativeDiff> {
        Some(&self.powers)
    }

    fn id_shift(&self) -> Option<&dyn IdShift> {
        Some(&self.powers)
    }

    fn staged_apply(&self) -> Option<&dyn StagedApply> {
        Some(&self.powers)
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

impl FileGetter for Zfs {
    fn open_file(&self, id: &LayerId, path: &Path) -> Result<File> {
        let _reference = Reference::take(&self.home, "open file of", id, Purpose::Keep)?;
        // The file keeps the mount, of which nobody else knows, until it is closed.
        let temp_dir = self.home.temp_dirs.create()?;
        let root = open_aside(&self.home.dataset(id)?, &temp_dir)?;
        open_file(&root, path)
    }
}

/// ZFS shares equal blocks by itself where the pool is told to (`dedup=on`), and not on request.
impl Dedup for Zfs {
    fn dedup(&self, layers: &[LayerId], _hash: DedupHash) -> Result<u64> {
        layers.iter().try_for_each(|id| self.home.require("deduplicate", id).map(drop))?;
        Ok(0)
    }

    fn dedup_roots(&self, id: &LayerId) -> Result<Vec<PathBuf>> {
        self.home.require("deduplicate", id)?;
        Ok(vec![self.home.mount_point(id)])
    }
}
