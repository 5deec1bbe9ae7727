//! Where things are, and which layers there are.

use std::path::{Path, PathBuf};

use graphdriver_archive::RootDir;
use graphdriver_core::trees::{LayersDir, in_user_namespace, list_ids, make_dirs, overrides_modes};
use graphdriver_core::{
    DriverHome, Error, ErrorKind, FsMagic, HomeLock, LayerId, RefCounter, Result, TempDirs, fs_magic,
};
use graphdriver_sys::btrfs::subvolume::{self, Uuid};
use nix::errno::Errno;

use crate::destroy::remove_tree;
use crate::get;
use crate::options::BtrfsOptions;
use crate::quotas::Quotas;
use crate::subvolume::{Identity, identity};

/// In the home: the layers.
pub(crate) const LAYERS: &str = "subvolumes";

/// In the run home: who uses which layer.
const REFERENCES: &str = ".references";

/// In the run home: read-only mounts of layers.
const MOUNTS: &str = "mounts";

/// An opened home.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) path: PathBuf,
    pub(crate) layers: LayersDir,
    /// In the run home.
    mounts: PathBuf,
    pub(crate) temp_dirs: TempDirs,
    pub(crate) references: RefCounter,
    pub(crate) quotas: Quotas,
    pub(crate) options: BtrfsOptions,
    pub(crate) in_user_namespace: bool,
    /// Whether this process may write to what its mode closes.
    pub(crate) overrides_modes: bool,
}

/// Whether a home could be opened: nothing is made.
///
/// # Errors
/// As [`Home::open`].
pub(crate) fn probe(place: &DriverHome) -> Result<()> {
    let options = BtrfsOptions::parse(place.options())?;
    require_btrfs(place.nearest_dir())?;
    Quotas::probe(place.nearest_dir(), options)
}

impl Home {
    /// # Errors
    /// `InvalidArgument` for options; `IncompatibleFs` when it is not on btrfs; `NotSupported` before Linux 4.18; `NoSpace`; `PermissionDenied`; `Io`.
    pub(crate) fn open(place: &DriverHome) -> Result<Self> {
        probe(place)?;
        let options = BtrfsOptions::parse(place.options())?;
        let path = place.home().to_owned();
        let layers = path.join(LAYERS);
        make_dirs(&path, 0o755)?;
        make_dirs(&layers, 0o700)?;
        let quotas = Quotas::open(&path, options)?;
        let temp_dirs = TempDirs::open_with(&path, remove_tree)?;
        Ok(Self {
            quotas,
            temp_dirs,
            references: RefCounter::without_mounts(place.run_home().join(REFERENCES))?,
            options,
            in_user_namespace: in_user_namespace()?,
            overrides_modes: overrides_modes()?,
            mounts: place.run_home().join(MOUNTS),
            path,
            layers: LayersDir::new(layers),
        })
    }

    /// Where those who only read the layer have it mounted.
    pub(crate) fn readers_mount(&self, id: &LayerId) -> PathBuf {
        self.mounts.join(id)
    }

    /// The layers that were mounted for readers, by whomever.
    pub(crate) fn readers_mounts(&self) -> Result<Vec<LayerId>> {
        if !self.mounts.is_dir() {
            return Ok(Vec::new());
        }
        Ok(list_ids(&self.mounts)?.into_iter().map(|(id, _)| id).collect())
    }

    /// The right to change which layers there are.
    pub(crate) fn lock(&self) -> Result<HomeLock> {
        HomeLock::exclusive(&self.path)
    }

    /// The layer whose subvolume the layer's is a snapshot of.
    ///
    /// # Errors
    /// `LayerUnknown`; `Io`.
    pub(crate) fn parent(&self, operation: &'static str, id: &LayerId) -> Result<Option<LayerId>> {
        match self.layers.with_layer(operation, id, identity)?.and_then(|info| info.parent) {
            Some(parent) => self.find(|info| info.uuid == parent),
            None => Ok(None),
        }
    }

    /// A layer whose subvolume is a snapshot of this one.
    pub(crate) fn child_of(&self, uuid: Uuid) -> Result<Option<LayerId>> {
        self.find(|info| info.parent == Some(uuid))
    }

    /// Removes what killed processes left, and notes of layers that are gone; the first failure is told, all else is removed.
    pub(crate) fn clean_up(&self) -> Result<()> {
        let recovered = self.temp_dirs.recover();
        recovered.and(self.remove_stray_limits()).and(get::reclaim(self))
    }

    /// The noted limits of layers that are not there.
    pub(crate) fn stray_limits(&self) -> Result<Vec<LayerId>> {
        let mut strays = Vec::new();
        let noted = self.quotas.list()?;
        if noted.is_empty() {
            return Ok(strays);
        }
        // A layer in the making is noted before it is there.
        let _lock = self.lock()?;
        for id in noted {
            if !self.layers.exists(&id)? {
                strays.push(id);
            }
        }
        Ok(strays)
    }

    fn remove_stray_limits(&self) -> Result<()> {
        for id in self.stray_limits()? {
            let _lock = self.lock()?;
            if !self.layers.exists(&id)? {
                self.quotas.forget(&id)?;
            }
        }
        Ok(())
    }

    /// The first layer whose subvolume is as wanted.
    fn find(&self, is_wanted: impl Fn(&Identity) -> bool) -> Result<Option<LayerId>> {
        for id in self.layers.list()? {
            match self.layers.with_layer("look at", &id, identity) {
                Ok(Some(info)) if is_wanted(&info) => return Ok(Some(id)),
                // Removed meanwhile.
                Err(error) if error.kind() == ErrorKind::LayerUnknown => {}
                info => drop(info?),
            }
        }
        Ok(None)
    }
}

fn require_btrfs(dir: &Path) -> Result<()> {
    let magic = fs_magic(dir)?;
    if magic != FsMagic::BTRFS {
        let detail = format!("is on {magic}, not on btrfs; put the root on btrfs");
        return Err(Error::new(ErrorKind::IncompatibleFs, "open home").path(dir).detail(detail));
    }
    let root = RootDir::open(dir)?;
    match subvolume::info(&root) {
        Err(Errno::ENOTTY) if cfg!(feature = "libbtrfsutil") => Ok(()),
        Err(Errno::ENOTTY) => Err(Error::new(ErrorKind::NotSupported, "open home")
            .path(dir)
            .detail("this kernel does not tell what a subvolume is a snapshot of; Linux 4.18 does")),
        result => result.map(drop).map_err(|errno| Error::syscall("look at subvolume", dir, errno)),
    }
}
