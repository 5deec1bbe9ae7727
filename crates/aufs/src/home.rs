//! Where things are, and which layers there are.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use graphdriver_archive::{LayerStack, RootDir, remove_at};
use graphdriver_core::trees::{list_ids, make_dirs, unless_read_only};
use graphdriver_core::{
    DriverHome, Error, ErrorKind, FsMagic, HomeLock, LayerId, MountInfoChecker, RefCounter, Result, TempDirs,
    fs_magic,
};

use crate::branches;
use crate::kernel;
use crate::options::AufsOptions;

/// In the run home: who uses which layer.
const REFERENCES: &str = ".references";

/// File systems that AUFS cannot have as branches.
const REFUSED: [FsMagic; 3] = [FsMagic::AUFS, FsMagic::BTRFS, FsMagic::ECRYPTFS];

/// What the Go drivers call a directory that they are deleting.
const REMOVING: &str = "-removing";

/// An opened home.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    layers: PathBuf,
    diffs: PathBuf,
    mounts: PathBuf,
    pub(crate) options: AufsOptions,
    pub(crate) temp_dirs: TempDirs,
    pub(crate) references: RefCounter,
    pub(crate) backing: FsMagic,
    /// Whether AUFS knows the option `dirperm1`, once that was tried.
    pub(crate) dirperm1: OnceLock<bool>,
}

/// Whether layers could be mounted: nothing is made.
///
/// # Errors
/// As [`Home::open`], for a home that is new.
pub(crate) fn probe(place: &DriverHome) -> Result<()> {
    AufsOptions::parse(place.options())?;
    require_file_system(place.nearest_dir())?;
    kernel::require()
}

impl Home {
    /// Opens a home. One with layers opens without AUFS in the kernel, too.
    ///
    /// # Errors
    /// `InvalidArgument` for options; `IncompatibleFs` on a file system that cannot be a branch; `NotSupported` in a user namespace, and where there is neither AUFS nor a layer; `NoSpace`; `PermissionDenied`; `Io`.
    pub(crate) fn open(place: &DriverHome) -> Result<Self> {
        let options = AufsOptions::parse(place.options())?;
        require_file_system(place.nearest_dir())?;
        kernel::require_initial_namespace()?;
        let path = place.home().to_owned();
        let [layers, diffs, mounts] = ["layers", "diff", "mnt"].map(|name| path.join(name));
        if !has_entries(&layers) && !has_older_layout(place.root()) {
            kernel::require()?;
        }
        for dir in [&path, &layers, &diffs, &mounts] {
            make_dirs(dir, 0o755).or_else(unless_read_only)?;
        }
        let home = Self {
            temp_dirs: TempDirs::open(&path)?,
            references: RefCounter::new(Box::new(MountInfoChecker), place.run_home().join(REFERENCES))?,
            backing: fs_magic(&path)?,
            dirperm1: OnceLock::new(),
            options,
            path,
            layers,
            diffs,
            mounts,
        };
        if let Err(error) = home.sweep() {
            tracing::warn!(error = %error.report(), "leftovers of another program stay");
        }
        Ok(home)
    }

    /// The right to change which layers there are.
    pub(crate) fn lock(&self) -> Result<HomeLock> {
        HomeLock::exclusive(&self.path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file by which the layer exists.
    pub(crate) fn layer_file(&self, id: &LayerId) -> PathBuf {
        self.layers.join(id)
    }

    /// The layer's branch.
    pub(crate) fn diff(&self, id: &LayerId) -> PathBuf {
        self.diffs.join(id)
    }

    /// Where the layer is mounted.
    pub(crate) fn mount_point(&self, id: &LayerId) -> PathBuf {
        self.mounts.join(id)
    }

    pub(crate) fn exists(&self, id: &LayerId) -> Result<bool> {
        let path = self.layer_file(id);
        match fs::symlink_metadata(&path) {
            Ok(metadata) => Ok(metadata.is_file()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("stat", path, error)),
        }
    }

    /// # Errors
    /// `LayerUnknown` when there is no such layer.
    pub(crate) fn require(&self, operation: &'static str, id: &LayerId) -> Result<()> {
        if self.exists(id)? { Ok(()) } else { Err(Error::layer_unknown(operation, id)) }
    }

    /// The layers below, the nearest first.
    ///
    /// # Errors
    /// `LayerUnknown` when there is no such layer; `Io`.
    pub(crate) fn ancestors(&self, operation: &'static str, id: &LayerId) -> Result<Vec<LayerId>> {
        branches::read(&self.layer_file(id))?.ok_or_else(|| Error::layer_unknown(operation, id))
    }

    /// All layers, sorted.
    pub(crate) fn list(&self) -> Result<Vec<LayerId>> {
        let entries = list_ids(&self.layers)?.into_iter();
        let mut found: Vec<_> =
            entries.filter(|(_, file_type)| file_type.is_file()).map(|(id, _)| id).collect();
        found.sort_unstable();
        Ok(found)
    }

    /// A layer whose parent is `id`.
    pub(crate) fn child_of(&self, id: &LayerId) -> Result<Option<LayerId>> {
        for other in self.list()? {
            let ancestors = branches::read(&self.layer_file(&other))?;
            if ancestors.is_some_and(|ancestors| ancestors.first() == Some(id)) {
                return Ok(Some(other));
            }
        }
        Ok(None)
    }

    /// The branches of the layer, its own first.
    ///
    /// # Errors
    /// `LayerUnknown`; `Io` naming the branch that is missing.
    pub(crate) fn stack(&self, operation: &'static str, id: &LayerId) -> Result<LayerStack> {
        let ancestors = self.ancestors(operation, id)?;
        Ok(LayerStack::aufs(self.open_branches(std::iter::once(id).chain(&ancestors))?))
    }

    /// The branches, open.
    pub(crate) fn open_branches<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a LayerId>,
    ) -> Result<Vec<RootDir>> {
        ids.into_iter().map(|id| Ok(RootDir::open(self.diff(id))?)).collect()
    }

    /// Directories of branches and mount points without a layer, which a killed process of another program may have left.
    pub(crate) fn strays(&self) -> Result<Vec<PathBuf>> {
        let mut strays = Vec::new();
        for dir in [&self.diffs, &self.mounts] {
            for (id, _) in list_ids(dir)? {
                if !self.exists(&id)? {
                    strays.push(dir.join(&id));
                }
            }
        }
        strays.sort_unstable();
        Ok(strays)
    }

    /// Removes what killed processes left, and unmounts what they had mounted; the first failure is told, all else is done.
    pub(crate) fn clean_up(&self) -> Result<()> {
        let mut first = self.temp_dirs.recover().and(self.sweep());
        for id in self.list()? {
            first = first.and(self.reclaim(&id));
        }
        first
    }

    /// Deletes what the Go drivers were deleting.
    fn sweep(&self) -> Result<()> {
        let mut first = Ok(());
        for dir in [&self.layers, &self.diffs, &self.mounts] {
            for (id, _) in list_ids(dir)? {
                if !id.as_str().ends_with(REMOVING) {
                    continue;
                }
                let removed = RootDir::open(dir)
                    .and_then(|open| remove_at(open.as_fd(), id.as_str().as_ref(), &dir.join(&id)));
                first = first.and(removed.map_err(Error::from));
            }
        }
        first
    }
}

/// Whether layers are there that can be migrated.
fn has_older_layout(root: &Path) -> bool {
    root.join("graph").is_dir()
}

fn has_entries(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

fn require_file_system(dir: &Path) -> Result<()> {
    let magic = fs_magic(dir)?;
    if !REFUSED.contains(&magic) {
        return Ok(());
    }
    let detail = format!("the file system is {magic}, on which AUFS has no branches");
    Err(Error::new(ErrorKind::IncompatibleFs, "open home").path(dir).detail(detail))
}
