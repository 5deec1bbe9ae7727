//! The driver as its users see it; what each method does is in the module that its body names.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graphdriver_archive as archive;
use graphdriver_core::trees::{TreePowers, open_file};
use graphdriver_core::{
    AdditionalLayers, Capabilities, CreateOptions, Dedup, DeferredRemoval, DiskUsage, Driver, DriverEntry,
    DriverHome, Error, Feature, FileGetter, IdShift, LayerId, MountOptions, NativeDiff, Problem, Result,
    StagedApply,
};

use crate::home::{self, Home};
use crate::{check, get, remove, status};

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
    powers: TreePowers<Home>,
}

impl Btrfs {
    /// Opens a home, making it first if need be.
    ///
    /// # Errors
    /// `InvalidArgument` for an option that is not known, or a limit that cannot be had; `IncompatibleFs` when the home would not be on btrfs; `NotSupported` before Linux 4.18; `NoSpace`;
    /// `PermissionDenied`; `Io`.
    pub fn open(place: &DriverHome) -> Result<Self> {
        let home = Arc::new(Home::open(place)?);
        Ok(Self { powers: TreePowers::new(&home), home })
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
        Some(&self.powers)
    }
}

impl FileGetter for Btrfs {
    fn open_file(&self, id: &LayerId, path: &Path) -> Result<File> {
        self.home.layers.with_layer("open file of", id, |root| open_file(root, path))
    }
}
