//! The directories that layers are looked for in, and which layers are there.

use std::fs;

use graphdriver_core::{DriverHome, Error, LayerId, LayerKind, Result};

use crate::layout::{LayerDir, Layout};
use crate::options::OverlayOptions;

/// The name of the home below an additional image store's root: also where this one is opened as `overlay2`.
const FOREIGN_HOME: &str = "overlay";

/// The home, and the stores of others whose layers are used as if they were here.
#[derive(Clone, Debug)]
pub(crate) struct Stores {
    home: Layout,
    /// Additional image stores, in the order in which they are searched.
    foreign: Vec<Layout>,
}

impl Stores {
    pub(crate) fn new(place: &DriverHome, options: &OverlayOptions) -> Self {
        let foreign =
            |root: &std::path::PathBuf| Layout::foreign(root.join(FOREIGN_HOME), place.run_home().to_owned());
        Self {
            home: Layout::own(place.home().to_owned()),
            foreign: options.image_stores.iter().map(foreign).collect(),
        }
    }

    /// What is opened, as opposed to what is only looked at.
    pub(crate) fn home(&self) -> &Layout {
        &self.home
    }

    /// Where new layers of this kind are made.
    pub(crate) fn for_kind(&self, _kind: LayerKind) -> &Layout {
        &self.home
    }

    /// The stores that are ours to write.
    pub(crate) fn own(&self) -> impl Iterator<Item = &Layout> {
        std::iter::once(&self.home)
    }

    /// Every store, in the order in which layers are looked for.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Layout> {
        self.own().chain(&self.foreign)
    }

    /// The layer `id`, wherever it is.
    pub(crate) fn find(&self, id: &LayerId) -> Result<Option<LayerDir>> {
        for store in self.all() {
            let layer = store.layer(id);
            if layer.exists()? {
                return Ok(Some(layer));
            }
        }
        Ok(None)
    }

    /// # Errors
    /// `LayerUnknown` when there is no such layer.
    pub(crate) fn require(&self, operation: &'static str, id: &LayerId) -> Result<LayerDir> {
        self.find(id)?.ok_or_else(|| Error::layer_unknown(operation, id))
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
}

/// The layers of one store. What else lies there is passed over: the driver's own files, and directories without a `diff`, which a killed
/// process of another program may have left.
pub(crate) fn layers_of(store: &Layout) -> Result<Vec<LayerDir>> {
    let failed = |error| Error::io("read directory", store.path(), error);
    let mut layers = Vec::new();
    for entry in fs::read_dir(store.path()).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let layer = store.layer(&id);
        if layer.exists()? {
            layers.push(layer);
        }
    }
    Ok(layers)
}
