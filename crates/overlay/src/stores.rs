//! The directories that layers are looked for in, and which layers are there.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use graphdriver_core::{DriverHome, Error, ErrorKind, HomeLock, LayerId, LayerKind, Result};
use nix::errno::Errno;

use crate::layout::{COMPOSEFS_DATA, LayerDir, Layout};
use crate::options::OverlayOptions;

/// The name of the home below the root of an image store: also where this one is opened as `overlay2`.
const HOME: &str = "overlay";

/// The home, a second one for read-only layers, and the stores of others whose layers are used as if they were here.
#[derive(Clone, Debug)]
pub(crate) struct Stores {
    home: Layout,
    /// Where read-only layers are made, if not in the home.
    image: Option<Layout>,
    /// Additional image stores, in the order in which they are searched.
    foreign: Vec<Layout>,
    /// The run home, where the layers of those are mounted.
    mounts: PathBuf,
    /// Additional layer stores, to which layers of additional image stores may lead.
    shown: Vec<PathBuf>,
}

impl Stores {
    pub(crate) fn new(place: &DriverHome, options: &OverlayOptions) -> Self {
        let foreign = |root: &PathBuf| Layout::foreign(root.join(HOME), place.run_home().to_owned());
        Self {
            home: Layout::own(place.home().to_owned()),
            image: place.image_store().map(|root| Layout::own(root.join(HOME))),
            foreign: options.image_stores.iter().map(foreign).collect(),
            mounts: place.run_home().to_owned(),
            shown: options.layer_stores.iter().map(|store| store.path.clone()).collect(),
        }
    }

    /// What is opened, as opposed to what is only looked at.
    pub(crate) fn home(&self) -> &Layout {
        &self.home
    }

    /// Where new layers of this kind are made.
    pub(crate) fn for_kind(&self, kind: LayerKind) -> &Layout {
        match kind {
            LayerKind::ReadOnly => self.image.as_ref().unwrap_or(&self.home),
            LayerKind::ReadWrite => &self.home,
        }
    }

    /// The second home, for read-only layers.
    pub(crate) fn image(&self) -> Option<&Layout> {
        self.image.as_ref()
    }

    /// Forgets the second home where it is the first by another path. Both exist.
    pub(crate) fn drop_alias(&mut self) -> Result<()> {
        if let Some(image) = &self.image
            && inode(image.path())? == inode(self.home.path())?
        {
            self.image = None;
        }
        Ok(())
    }

    /// Keeps others from adding layers to the stores that are ours and from removing any.
    pub(crate) fn lock(&self) -> Result<Vec<HomeLock>> {
        let mut stores: Vec<&Layout> = self.own().collect();
        if stores.len() > 1 {
            // Everybody in the same order, who may have them the other way round.
            let inodes = stores.iter().map(|store| inode(store.path())).collect::<Result<Vec<_>>>()?;
            let mut order: Vec<_> = inodes.into_iter().zip(stores).collect();
            order.sort_unstable_by_key(|(inode, _)| *inode);
            stores = order.into_iter().map(|(_, store)| store).collect();
        }
        stores.into_iter().map(|store| HomeLock::exclusive(store.path())).collect()
    }

    /// The stores that are ours to write.
    pub(crate) fn own(&self) -> impl Iterator<Item = &Layout> {
        std::iter::once(&self.home).chain(&self.image)
    }

    /// Every store, in the order in which layers are looked for.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Layout> {
        self.own().chain(&self.foreign)
    }

    /// The store that holds the layer.
    pub(crate) fn store_of(&self, layer: &LayerDir) -> &Layout {
        self.all().find(|store| layer.path().parent() == Some(store.path())).unwrap_or(&self.home)
    }

    /// The layer `id`, wherever it is.
    pub(crate) fn find(&self, id: &LayerId) -> Result<Option<LayerDir>> {
        for store in self.all() {
            let layer = store.layer(id);
            if layer.exists()? {
                self.require_inside(&layer)?;
                return Ok(Some(layer));
            }
        }
        Ok(None)
    }

    /// Keeps somebody else from showing other directories of this machine as layers: a store may be on another machine, and what its links say is followed on this one.
    ///
    /// # Errors
    /// `PathEscape` for a layer of an additional image store that lies elsewhere, unless it is in an additional layer store.
    pub(crate) fn require_inside(&self, layer: &LayerDir) -> Result<()> {
        if !layer.is_foreign() {
            return Ok(());
        }
        let [diff, image] = [layer.diff(), layer.image()];
        let image_dir = layer.path().join(COMPOSEFS_DATA);
        for path in [layer.path(), &diff, &image_dir, &image] {
            // Everything else than a symbolic link is EINVAL.
            if let Ok(target) = fs::read_link(path)
                && !(path == diff && self.is_shown(&target))
            {
                let detail = format!("it leads to {target:?}, out of the additional image store");
                return Err(Error::new(ErrorKind::PathEscape, "open")
                    .layer(layer.id())
                    .path(path)
                    .detail(detail));
            }
        }
        Ok(())
    }

    fn is_shown(&self, path: &Path) -> bool {
        let is_plain = !path.components().any(|component| component == Component::ParentDir);
        is_plain && self.shown.iter().any(|store| path.starts_with(store))
    }

    /// # Errors
    /// `LayerUnknown` when there is no such layer.
    pub(crate) fn require(&self, operation: &'static str, id: &LayerId) -> Result<LayerDir> {
        self.find(id)?.ok_or_else(|| Error::layer_unknown(operation, id))
    }

    /// Does `work` with a layer that may be removed meanwhile.
    ///
    /// # Errors
    /// `LayerUnknown` when there is no such layer, or when `work` missed something and there is not any more; as `work`.
    pub(crate) fn with_layer<T>(
        &self,
        operation: &'static str,
        id: &LayerId,
        work: impl FnOnce(&LayerDir) -> Result<T>,
    ) -> Result<T> {
        match work(&self.require(operation, id)?) {
            Err(error) if error.errno() == Some(Errno::ENOENT) && self.find(id)?.is_none() => {
                Err(Error::layer_unknown(operation, id))
            }
            result => result,
        }
    }

    /// # Errors
    /// `LayerExists` when there is such a layer.
    pub(crate) fn require_absent(&self, id: &LayerId) -> Result<()> {
        match self.find(id)? {
            Some(_) => Err(Error::layer_exists("create", id)),
            None => Ok(()),
        }
    }

    /// The layers that are ours, sorted.
    pub(crate) fn layers(&self) -> Result<Vec<LayerDir>> {
        let mut layers = self.own().map(layers_of).collect::<Result<Vec<_>>>()?.concat();
        layers.sort_unstable_by(|one, other| one.id().cmp(other.id()));
        Ok(layers)
    }

    /// The layers of additional image stores for which there is a mount point, also of stores that are not named any more.
    pub(crate) fn mounted_elsewhere(&self) -> Result<Vec<LayerDir>> {
        let run_home = Layout::foreign(self.mounts.clone(), self.mounts.clone());
        let mut layers = ids_in(&self.mounts)?.into_iter().map(|id| run_home.layer(&id)).collect::<Vec<_>>();
        layers.retain(|layer| layer.merged().is_dir());
        Ok(layers)
    }
}

fn inode(path: &Path) -> Result<(u64, u64)> {
    let metadata = fs::metadata(path).map_err(|error| Error::io("stat", path, error))?;
    Ok((metadata.dev(), metadata.ino()))
}

/// The layers of one store. What else lies there is passed over: the driver's own files, and directories without a `diff`, which a killed
/// process of another program may have left.
pub(crate) fn layers_of(store: &Layout) -> Result<Vec<LayerDir>> {
    // Somebody's store may be there before its first layer.
    if store.is_foreign() && !store.path().exists() {
        return Ok(Vec::new());
    }
    let mut layers = Vec::new();
    for id in ids_in(store.path())? {
        let layer = store.layer(&id);
        if layer.exists()? {
            layers.push(layer);
        }
    }
    Ok(layers)
}

/// What in a directory has a name that a layer can have.
fn ids_in(dir: &Path) -> Result<Vec<LayerId>> {
    let failed = |error| Error::io("read directory", dir, error);
    let mut ids = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        ids.extend(entry.map_err(failed)?.file_name().to_str().and_then(|name| name.parse().ok()));
    }
    Ok(ids)
}
