//! Where things are, and which layers there are.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use graphdriver_core::trees::{in_user_namespace, make_dirs};
use graphdriver_core::{
    DriverHome, Error, ErrorKind, FsMagic, FsMagicChecker, HomeLock, LayerId, RefCounter, Result, TempDirs,
    fs_magic, mount_info,
};
use nix::sys::stat::{major, minor};

use crate::command::Programs;
use crate::dataset::{Dataset, TempNames};
use crate::library::Library;
use crate::options::{ZfsOptions, ZfsTuning};
use crate::pool::{LEGACY, Pool};
use crate::sweep;

/// In the run home: who uses which layer.
const REFERENCES: &str = ".references";

/// The device by which programs talk to ZFS.
const DEVICE: &str = "/dev/zfs";

/// An opened home.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    mounts: PathBuf,
    pub(crate) pool: Pool,
    pub(crate) temp_dirs: TempDirs,
    pub(crate) temp_names: TempNames,
    pub(crate) references: RefCounter,
    pub(crate) options: ZfsOptions,
    pub(crate) in_user_namespace: bool,
}

impl Home {
    pub(crate) fn open(place: &DriverHome, tuning: ZfsTuning) -> Result<Self> {
        let (options, pool) = find(place, tuning)?;
        let path = place.home().to_owned();
        make_dirs(&path, 0o755)?;
        let mounts = path.join("graph");
        make_dirs(&mounts, 0o755)?;
        let checker = Box::new(FsMagicChecker::new([FsMagic::ZFS]));
        let home = Self {
            temp_names: TempNames::new(&path),
            temp_dirs: TempDirs::open(&path)?,
            references: RefCounter::new(checker, place.run_home().join(REFERENCES))?,
            path,
            mounts,
            pool,
            options,
            in_user_namespace: in_user_namespace()?,
        };
        if let Err(error) = sweep::sweep(&home) {
            tracing::warn!(error = %error.report(), "leftovers of another process stay");
        }
        Ok(home)
    }

    /// Tells whether [`open`](Self::open) would find what it needs.
    pub(crate) fn probe(place: &DriverHome) -> Result<()> {
        find(place, ZfsTuning::default()).map(drop)
    }

    /// The right to change which layers there are.
    pub(crate) fn lock(&self) -> Result<HomeLock> {
        HomeLock::exclusive(&self.path)
    }

    /// Where the layer is mounted, while it is.
    pub(crate) fn mount_point(&self, id: &LayerId) -> PathBuf {
        self.mounts.join(id)
    }

    /// Where the temporary directory `name` is, while it is.
    pub(crate) fn temp_dir(&self, name: &str) -> PathBuf {
        self.path.join("tempdirs").join(name)
    }

    pub(crate) fn mounts_dir(&self) -> &Path {
        &self.mounts
    }

    /// The layer's dataset, or what it would be.
    ///
    /// # Errors
    /// `InvalidArgument` for an id that cannot be part of a dataset's name.
    pub(crate) fn dataset(&self, id: &LayerId) -> Result<Dataset> {
        self.pool.parent.layer(id)
    }

    pub(crate) fn exists(&self, id: &LayerId) -> Result<bool> {
        match self.dataset(id) {
            Ok(dataset) => self.pool.has_layer(&dataset),
            // Nothing can have this name.
            Err(_) => Ok(false),
        }
    }

    /// The dataset of a layer that there is.
    ///
    /// # Errors
    /// `LayerUnknown` when there is no such layer.
    pub(crate) fn require(&self, operation: &'static str, id: &LayerId) -> Result<Dataset> {
        if self.exists(id)? { self.dataset(id) } else { Err(Error::layer_unknown(operation, id)) }
    }

    /// All layers, sorted.
    pub(crate) fn list(&self) -> Result<Vec<LayerId>> {
        let children = self.pool.children()?.into_iter();
        let mut layers: Vec<LayerId> = children
            .filter(|(_, mountpoint)| mountpoint == LEGACY)
            .filter_map(|(name, _)| name.parse().ok())
            .collect();
        layers.sort_unstable();
        Ok(layers)
    }

    /// The layer that `dataset` was cloned from.
    pub(crate) fn parent(&self, dataset: &Dataset) -> Result<Option<LayerId>> {
        Ok(self.origin(dataset)?.and_then(|origin| {
            let (parent, _) = origin.split_once('@')?;
            self.pool.parent.below(parent)?.parse().ok()
        }))
    }

    /// The snapshot that `dataset` was cloned from.
    pub(crate) fn origin(&self, dataset: &Dataset) -> Result<Option<String>> {
        Ok(self.pool.get(dataset, "origin")?.filter(|origin| origin != "-"))
    }
}

/// The options, and the pool that there must be.
fn find(place: &DriverHome, tuning: ZfsTuning) -> Result<(ZfsOptions, Pool)> {
    let options = ZfsOptions::parse(place.options())?;
    require_device()?;
    let programs = Programs::find()?;
    let parent = match &options.parent {
        Some(parent) => parent.clone(),
        None => dataset_at(place.nearest_dir())?,
    };
    let library = Library::find(tuning);
    let pool = Pool { programs, library, parent };
    // A dataset that was named must be there: to take another driver would not be what was asked for.
    if pool.get(&pool.parent, "name")?.is_none() {
        let error = Error::new(ErrorKind::InvalidArgument, "open driver");
        return Err(error.detail(format!(
            "cannot find root filesystem {}: make it with `zfs create`, or name another with zfs.fsname",
            pool.parent
        )));
    }
    Ok((options, pool))
}

fn require_device() -> Result<()> {
    match File::options().read(true).write(true).open(DEVICE) {
        Ok(_) => Ok(()),
        Err(error) => {
            let detail = if error.kind() == io::ErrorKind::NotFound {
                "the kernel has no ZFS: load the module zfs"
            } else {
                "could not open /dev/zfs"
            };
            Err(Error::new(ErrorKind::Prerequisites, "open").path(DEVICE).detail(detail).source(error))
        }
    }
}

/// The dataset that the directory lies on.
fn dataset_at(dir: &Path) -> Result<Dataset> {
    let refused =
        |detail: String| Error::new(ErrorKind::IncompatibleFs, "find dataset").path(dir).detail(detail);
    let magic = fs_magic(dir)?;
    if magic != FsMagic::ZFS {
        return Err(refused(format!(
            "no zfs dataset found for rootdir: it lies on {magic}; put the root on ZFS, or name a dataset with zfs.fsname"
        )));
    }
    let metadata = fs::metadata(dir).map_err(|error| Error::io("stat", dir, error))?;
    let device = (major(metadata.dev()), minor(metadata.dev()));
    let mounts = mount_info::mounts()?;
    let mount = mounts.iter().find(|mount| {
        (u64::from(mount.device.0), u64::from(mount.device.1)) == device && mount.fs_type == "zfs"
    });
    let source = mount.and_then(|mount| mount.source.to_str());
    Dataset::new(
        source.ok_or_else(|| refused("failed to find zfs dataset in the table of mounts".to_owned()))?,
    )
}
