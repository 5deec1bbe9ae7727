//! The optional powers of drivers that keep whole trees.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use graphdriver_archive::{
    self as archive, Applied, Change, CompareOptions, DedupHash, Export, ExportOptions, IdMaps, RootDir,
};

use super::home::{Purpose, Reference, StagedTree, Tree, TreeHome};
use super::root::empty_again;
use super::staged::FilledTree;
use crate::detached_mount::DetachedMount;
use crate::differ::{Differ, DifferOutput};
use crate::driver::CreateOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::layer_diff::LayerDiff;
use crate::layer_id::LayerId;
use crate::powers::{Dedup, IdShift, LayerApplyOptions, NativeDiff, StagedApply, StagedLayer};

/// Filling layers, comparing them, changing their owners and sharing their blocks, where each is a whole tree of the home `H`.
#[derive(Debug)]
pub struct TreePowers<H> {
    home: Arc<H>,
}

impl<H: TreeHome> TreePowers<H> {
    /// Those of the drivers of `home`.
    pub fn new(home: &Arc<H>) -> Self {
        Self { home: Arc::clone(home) }
    }

    /// Makes a layer that nothing is unpacked into; see [`Driver::create`](crate::Driver::create).
    ///
    /// # Errors
    /// `LayerExists`; `ParentUnknown`; as the driver. Nothing remains.
    pub fn create(&self, id: &LayerId, options: &CreateOptions) -> Result<()> {
        self.home.begin(options)?.publish(id)
    }
}

/// A layer and what it is compared with, neither of which can be removed meanwhile.
struct Pair<H: TreeHome> {
    layer: Kept<H>,
    base: Option<Kept<H>>,
}

struct Kept<H: TreeHome> {
    root: RootDir,
    reference: Reference<H>,
}

impl<H: TreeHome> Pair<H> {
    fn open(home: &Arc<H>, id: &LayerId, base: Option<&LayerId>) -> Result<Self> {
        let open = |id| -> Result<_> {
            let (root, reference) = Reference::open(home, "diff", id, Purpose::Read)?;
            Ok(Kept { root, reference })
        };
        Ok(Self { layer: open(id)?, base: base.map(open).transpose()? })
    }

    /// `None` when they are to be compared in full.
    fn changes(&self, home: &H) -> Result<Option<Vec<Change>>> {
        match &self.base {
            None => Ok(Some(archive::changes(&self.layer.root, None, &CompareOptions::default())?)),
            Some(base) => home.compare(self.layer.tree(), base.tree()),
        }
    }
}

impl<H: TreeHome> Kept<H> {
    fn tree(&self) -> Tree<'_> {
        Tree { id: self.reference.id(), root: &self.root }
    }
}

/// `None` for a pair of layers of which the home knows nothing.
impl<H: TreeHome> NativeDiff for TreePowers<H> {
    fn diff(&self, id: &LayerId, base: Option<&LayerId>, id_maps: &IdMaps) -> Result<Option<LayerDiff>> {
        let pair = Pair::open(&self.home, id, base)?;
        let options = ExportOptions { id_maps: id_maps.clone() };
        let export = if base.is_some() {
            let Some(changes) = pair.changes(&self.home)? else { return Ok(None) };
            Export::changes(&pair.layer.root, changes, options)?
        } else {
            Export::tree(&pair.layer.root, options)?
        };
        Ok(Some(LayerDiff::new(export).keeping(pair.layer.reference)))
    }

    fn changes(&self, id: &LayerId, base: Option<&LayerId>) -> Result<Option<Vec<Change>>> {
        Pair::open(&self.home, id, base)?.changes(&self.home)
    }

    fn diff_size(&self, id: &LayerId, base: Option<&LayerId>) -> Result<Option<u64>> {
        let pair = Pair::open(&self.home, id, base)?;
        let Some(changes) = pair.changes(&self.home)? else { return Ok(None) };
        Ok(Some(archive::changes_size(&pair.layer.root, &changes)?))
    }

    /// A layer that was empty is empty again after an error, otherwise what was unpacked until then stays.
    fn apply(
        &self,
        id: &LayerId,
        tar: &mut dyn Read,
        options: &LayerApplyOptions,
    ) -> Result<Option<Applied>> {
        let (root, _reference) = Reference::open(&self.home, "apply to", id, Purpose::Write)?;
        let failed = |error| Error::io("stat", root.path(), error);
        let before = fs::metadata(root.path()).map_err(failed)?;
        let was_empty = fs::read_dir(root.path()).map_err(failed)?.next().is_none();
        let filling = self.home.filling();
        let applied = archive::apply(&root, tar, &filling.options(options))
            .map_err(Error::from)
            .and_then(|applied| filling.flush(&root).map(|()| applied));
        if applied.is_err()
            && was_empty
            && let Err(error) = empty_again(&root, &before)
        {
            tracing::warn!(layer = %id, error = %error.report(), "what was unpacked before the failure stays");
        }
        applied.map(Some).map_err(|error| self.home.explain(error, Tree { id, root: &root }))
    }
}

impl<H: TreeHome> StagedApply for TreePowers<H> {
    fn stage(
        &self,
        create: &CreateOptions,
        tar: &mut dyn Read,
        options: &LayerApplyOptions,
    ) -> Result<Box<dyn StagedLayer>> {
        let filling = self.home.filling();
        Ok(Box::new(FilledTree::unpack(self.home.begin(create)?, filling, tar, options)?))
    }

    fn stage_with(
        &self,
        create: &CreateOptions,
        differ: &mut dyn Differ,
        options: &LayerApplyOptions,
    ) -> Result<(Box<dyn StagedLayer>, DifferOutput)> {
        let filling = self.home.filling();
        let (filled, output) = FilledTree::fill_with(self.home.begin(create)?, filling, differ, options)?;
        Ok((Box::new(filled), output))
    }
}

/// Owners are rewritten; no mount shows others than the disk has.
impl<H: TreeHome> IdShift for TreePowers<H> {
    fn update_layer_id_map(&self, id: &LayerId, to_container: &IdMaps, to_host: &IdMaps) -> Result<()> {
        let (root, _reference) = Reference::open(&self.home, "change owners of", id, Purpose::Write)?;
        archive::chown_tree(&root, to_container, to_host)?;
        archive::chown_root(&root, to_container, to_host)?;
        Ok(())
    }

    fn supports_shifting(&self, _maps: &IdMaps) -> bool {
        false
    }

    fn mount_detached(&self, _id: &LayerId, _maps: &IdMaps) -> Result<DetachedMount> {
        Err(Error::new(ErrorKind::NotSupported, "mount")
            .detail("this driver shows layers with the owners that the disk has"))
    }
}

/// What a copy shares with its original is shared already.
impl<H: TreeHome> Dedup for TreePowers<H> {
    fn dedup(&self, layers: &[LayerId], hash: DedupHash) -> Result<u64> {
        let open = |id| Reference::open(&self.home, "deduplicate", id, Purpose::Write);
        let opened = layers.iter().map(open).collect::<Result<Vec<_>>>()?;
        let roots: Vec<_> = opened.iter().map(|(root, _)| root.clone()).collect();
        Ok(archive::dedup(&roots, hash)?)
    }

    fn dedup_roots(&self, id: &LayerId) -> Result<Vec<PathBuf>> {
        let (root, _reference) = Reference::open(&self.home, "deduplicate", id, Purpose::Write)?;
        Ok(vec![root.path().to_owned()])
    }
}
