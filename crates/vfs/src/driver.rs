//! The driver as its users see it; what each method does is in the module that its body names.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graphdriver_archive::{self as archive, CopyMethod};
use graphdriver_core::trees::{TreeHome, TreePowers, open_file};
use graphdriver_core::{
    AdditionalLayers, Capabilities, CreateOptions, Dedup, DeferredRemoval, DiskUsage, Driver, DriverEntry,
    DriverHome, Error, Feature, FileGetter, IdShift, LayerId, MountOptions, NativeDiff, Problem, Result,
    StagedApply,
};

use crate::home::Home;
use crate::options::{VfsTuning, no_mount_options};
use crate::{check, remove};

/// The driver for a [`Registry`](graphdriver_core::Registry): `vfs`. Works everywhere and so is never chosen while another would do.
pub const DRIVER: DriverEntry = DriverEntry {
    names: &["vfs"],
    automatic: false,
    probe: |_| Ok(()),
    open: |place| Ok(Arc::new(Vfs::open(place)?)),
};

/// Layers as full copies of their parents.
///
/// A "mount" is the layer's directory itself: references are counted, so that a layer in use is not removed, but nothing is mounted, and
/// [`MountOptions::read_only`] is not enforced. Layers that another program made in the same home can be used; their parents are not known.
#[derive(Debug)]
pub struct Vfs {
    home: Arc<Home>,
    powers: TreePowers<Home>,
}

impl Vfs {
    /// Opens a home, making it first if need be.
    ///
    /// # Errors
    /// `InvalidArgument` for an option that is not known; `NoSpace`; `PermissionDenied`; `Io`.
    pub fn open(place: &DriverHome) -> Result<Self> {
        Self::open_with(place, VfsTuning::default())
    }

    /// Like [`open`](Self::open), with choices made that the driver otherwise makes by itself.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(place: &DriverHome, tuning: VfsTuning) -> Result<Self> {
        let home = Arc::new(Home::open(place, tuning)?);
        Ok(Self { powers: TreePowers::new(&home), home })
    }
}

impl Driver for Vfs {
    fn name(&self) -> &'static str {
        "vfs"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            native_apply: true,
            staged_apply: true,
            quota: self.home.quotas.unavailable().is_none(),
            reflink: self.home.has_reflinks,
            user_namespace: true,
            ..Capabilities::default()
        }
    }

    fn status(&self) -> Result<Vec<(String, String)>> {
        let facts = [
            ("Backing Filesystem", self.home.backing.to_string()),
            ("Reflinks", self.home.has_reflinks.to_string()),
            ("Project quota", self.home.quotas.status()),
        ];
        Ok(facts.map(|(name, value)| (name.to_owned(), value)).into())
    }

    fn features(&self) -> Vec<Feature> {
        let reflink = match (self.home.has_reflinks, self.home.copy) {
            (true, _) => Feature::on("reflink"),
            (false, CopyMethod::Auto) => {
                Feature::off("reflink", format!("the file system cannot share blocks: {}", self.home.backing))
            }
            (false, _) => {
                Feature::off("reflink", "another way of copying was chosen when the home was opened")
            }
        };
        vec![reflink]
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        vec![
            ("ignore_chown_errors", self.home.options.ignore_chown_errors.to_string()),
            ("sync", self.home.options.sync.to_string()),
        ]
    }

    fn create(&self, id: &LayerId, options: &CreateOptions) -> Result<()> {
        // Found before the copy rather than after; publishing decides.
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
        if options.extra.iter().any(|option| option != "ro") {
            return Err(no_mount_options());
        }
        self.home.take_reference("mount", id, options.persistent)?;
        Ok(self.home.layers.layer(id))
    }

    fn put(&self, id: &LayerId) -> Result<()> {
        self.home.layers.require("unmount", id)?;
        self.home.release(id)
    }

    fn exists(&self, id: &LayerId) -> Result<bool> {
        self.home.layers.exists(id)
    }

    fn layers(&self) -> Result<Vec<LayerId>> {
        self.home.layers.list()
    }

    fn parent(&self, id: &LayerId) -> Result<Option<LayerId>> {
        self.home.layers.require("find parent of", id)?;
        let note = self.home.note(id)?;
        if note.is_none() {
            // It goes when the layer has gone.
            self.home.layers.require("find parent of", id)?;
        }
        Ok(note.map(|note| note.parent))
    }

    fn metadata(&self, id: &LayerId) -> Result<BTreeMap<String, String>> {
        self.home.layers.require("describe", id)?;
        Ok(BTreeMap::from([("Dir".to_owned(), self.home.layers.layer(id).display().to_string())]))
    }

    fn usage(&self, id: &LayerId) -> Result<DiskUsage> {
        self.home.layers.with_layer("measure", id, |root| match self.home.quotas.usage(root.path())? {
            Some(usage) => Ok(usage),
            None => Ok(archive::disk_usage(root)?),
        })
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

impl FileGetter for Vfs {
    fn open_file(&self, id: &LayerId, path: &Path) -> Result<File> {
        self.home.layers.with_layer("open file of", id, |root| open_file(root, path))
    }
}
