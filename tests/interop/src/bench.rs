//! What trials share: archives, file systems, and trees that are unpacked once for all of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use graphdriver_conformance::tree::Tree;

use crate::edit::{PARENTS, edit};
use crate::layers::{Chain, Layers};
use crate::needs::Need;
use crate::peer::umoci;
use crate::stage::{Scratch, Stage};
use crate::store::Store;
use crate::unpacker::{Layer, Unpacker};

pub(crate) struct Bench {
    trees: Memory<(Unpacker, Chain), Tree>,
    edited: Memory<&'static str, Edited>,
    layers: Layers,
    /// Last, since what is above lies on it.
    pub(crate) stage: Stage,
}

/// The layer on top of [`PARENTS`] that was edited.
pub(crate) struct Edited {
    /// As it was seen where it was mounted.
    pub(crate) tree: Tree,
    /// What it changed.
    pub(crate) diff: PathBuf,
    _scratch: Scratch,
}

impl Bench {
    pub(crate) fn new(stage: Stage, layers: Layers) -> Self {
        Self { trees: Memory::default(), edited: Memory::default(), layers, stage }
    }

    /// What `unpacker` makes of `chain`.
    pub(crate) fn tree(&self, unpacker: Unpacker, chain: Chain) -> Result<Arc<Tree>, Need> {
        self.trees.get((unpacker, chain), || match (unpacker, chain) {
            (Unpacker::Umoci, Chain::Image) => self.image_by_umoci(),
            _ => unpacker.unpack(&self.archives(chain.layers())?, &self.stage),
        })
    }

    /// From the layout as it is, so that its compression and digests are in it.
    fn image_by_umoci(&self) -> Result<Tree, Need> {
        Unpacker::Umoci.is_here()?;
        let scratch = self.stage.scratch()?;
        let image = umoci::Image::in_layout(&self.layers.image()?);
        Ok(Tree::read_large(&image.unpack(scratch.join("root"))))
    }

    /// A child of [`PARENTS`] that was edited in our `driver`.
    pub(crate) fn edited(&self, driver: &'static str) -> Result<Arc<Edited>, Need> {
        self.edited.get(driver, || {
            let (home, scratch) = (self.stage.scratch_for(driver)?, self.stage.scratch()?);
            let store = Store::open(driver, home.path());
            let mut parent = None;
            for (id, archive) in self.archives(&PARENTS)? {
                store.fill(id, parent, &archive);
                parent = Some(id);
            }
            let parent = parent.expect("it has parents");
            store.edit("child", parent, edit);
            let diff = scratch.join("diff.tar");
            store.diff("child", Some(parent), &diff);
            Ok(Edited { tree: store.tree("child"), diff, _scratch: scratch })
        })
    }

    pub(crate) fn archives(&self, names: &[&'static str]) -> Result<Vec<Layer>, Need> {
        names.iter().map(|name| Ok((*name, self.layers.archive(name)?))).collect()
    }
}

/// Values that are made when they are first asked for, each once, while others are made by other threads.
struct Memory<K, V> {
    cells: Mutex<BTreeMap<K, Cell<V>>>,
}

type Cell<V> = Arc<OnceLock<Result<Arc<V>, Need>>>;

impl<K, V> Default for Memory<K, V> {
    fn default() -> Self {
        Self { cells: Mutex::default() }
    }
}

impl<K: Ord, V> Memory<K, V> {
    fn get(&self, key: K, make: impl FnOnce() -> Result<V, Need>) -> Result<Arc<V>, Need> {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        let cell = Arc::clone(cells.entry(key).or_default());
        drop(cells);
        cell.get_or_init(|| make().map(Arc::new)).clone()
    }
}
