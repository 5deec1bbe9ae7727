//! What a store has: its layers, their short names, and what they say lies below them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use graphdriver_core::{Error, LayerId, Result};

use crate::layout::{LayerDir, Layout};
use crate::link::{self, LinkId};
use crate::lowers::{self, LowerEntry};
use crate::stores::{Stores, layers_of};

/// One layer.
pub(super) struct Surveyed {
    pub(super) dir: LayerDir,
    /// What the `link` file says; `None` where it is lost.
    pub(super) link: Option<LinkId>,
    /// What the `lower` file says.
    pub(super) lowers: Result<Vec<LowerEntry>>,
}

/// One entry of `l`.
pub(super) struct Entry {
    /// `None` for a name that is no short name.
    pub(super) link: Option<LinkId>,
    pub(super) path: PathBuf,
    /// The layer that it leads to; `None` for another target, or no symbolic link.
    pub(super) layer: Option<LayerId>,
}

/// Everything about one store's names, read while the store's lock is held.
pub(super) struct Survey<'a> {
    pub(super) stores: &'a Stores,
    pub(super) store: &'a Layout,
    pub(super) layers: Vec<Surveyed>,
    pub(super) entries: Vec<Entry>,
    /// Which layer a short name stands for, by the `link` files of this store and by both ways of the others.
    names: HashMap<LinkId, LayerDir>,
    /// The short names that some layer has below it.
    pub(super) wanted: HashSet<LinkId>,
}

impl<'a> Survey<'a> {
    pub(super) fn of(stores: &'a Stores, store: &'a Layout) -> Result<Self> {
        let mut layers = layers_of(store)?.into_iter().map(survey_layer).collect::<Result<Vec<_>>>()?;
        layers.sort_unstable_by(|one, other| one.dir.id().cmp(other.dir.id()));
        let entries = entries_of(store)?;
        let mut names = HashMap::new();
        for other in stores.all().filter(|other| other.path() != store.path()) {
            names_of(other, &mut names)?;
        }
        for layer in &layers {
            names.extend(layer.link.clone().map(|link| (link, layer.dir.clone())));
        }
        let mut wanted: HashSet<LinkId> = HashSet::new();
        for other in stores.own() {
            for layer in layers_of(other)? {
                let entries = lowers::read(&layer).unwrap_or_default();
                wanted.extend(entries.iter().filter_map(LowerEntry::as_link).cloned());
            }
        }
        Ok(Self { stores, store, layers, entries, names, wanted })
    }

    /// What `l` has under this name.
    pub(super) fn entry(&self, link: &LinkId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.link.as_ref() == Some(link))
    }

    /// The layer that `entry` of a `lower` file stands for, if it is there.
    pub(super) fn resolve(&self, entry: &LowerEntry) -> Result<Option<LayerDir>> {
        let layer = match entry {
            LowerEntry::Layer(id) => return self.stores.find(id),
            LowerEntry::Link(link) => self.names.get(link).cloned().or_else(|| {
                let id = self.entry(link)?.layer.as_ref()?;
                Some(self.store.layer(id))
            }),
        };
        match layer {
            Some(layer) => Ok(layer.exists()?.then_some(layer)),
            None => Ok(None),
        }
    }

    /// Whether nobody knows which layer has this name.
    pub(super) fn is_orphan(&self, link: &LinkId) -> bool {
        !self.names.contains_key(link) && self.entry(link).is_none_or(|entry| entry.layer.is_none())
    }
}

fn survey_layer(dir: LayerDir) -> Result<Surveyed> {
    Ok(Surveyed { link: link::read(&dir)?, lowers: lowers::read(&dir), dir })
}

fn names_of(store: &Layout, names: &mut HashMap<LinkId, LayerDir>) -> Result<()> {
    for entry in entries_of(store)? {
        if let (Some(link), Some(id)) = (entry.link, entry.layer) {
            names.insert(link, store.layer(&id));
        }
    }
    for layer in layers_of(store)? {
        names.extend(link::read(&layer)?.map(|link| (link, layer)));
    }
    Ok(())
}

fn entries_of(store: &Layout) -> Result<Vec<Entry>> {
    let links = store.links();
    let failed = |error| Error::io("read directory", &links, error);
    let read = match fs::read_dir(&links) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(failed)?,
    };
    let mut entries = Vec::new();
    for entry in read {
        let entry = entry.map_err(failed)?;
        entries.push(Entry {
            link: LinkId::parse(entry.file_name().as_bytes()),
            path: entry.path(),
            layer: fs::read_link(entry.path()).ok().and_then(|target| link::layer_of_target(&target)),
        });
    }
    entries.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    Ok(entries)
}
