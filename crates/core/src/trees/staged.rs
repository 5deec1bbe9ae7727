//! Filling a layer in the making.

use std::io::Read;

use graphdriver_archive::{self as archive, Applied};

use super::home::{Filling, StagedTree};
use crate::differ::{Differ, DifferOutput};
use crate::error::Result;
use crate::layer_id::LayerId;
use crate::powers::{LayerApplyOptions, StagedLayer};

/// A filled tree without a name. Dropping it removes it.
#[derive(Debug)]
pub(super) struct FilledTree<S> {
    tree: S,
    applied: Applied,
}

impl<S: StagedTree> FilledTree<S> {
    /// Unpacks `tar` into it.
    ///
    /// # Errors
    /// As [`archive::apply`].
    pub(super) fn unpack(
        tree: S,
        filling: Filling,
        tar: &mut dyn Read,
        options: &LayerApplyOptions,
    ) -> Result<Self> {
        let root = tree.open()?;
        let applied = archive::apply(&root, tar, &filling.options(options))
            .map_err(|error| tree.explain(error.into(), &root))?;
        filling.flush(&root).map_err(|error| tree.explain(error, &root))?;
        Ok(Self { tree, applied })
    }

    /// Lets `differ` fill it.
    ///
    /// # Errors
    /// As the differ.
    pub(super) fn fill_with(
        tree: S,
        filling: Filling,
        differ: &mut dyn Differ,
        options: &LayerApplyOptions,
    ) -> Result<(Self, DifferOutput)> {
        let root = tree.open()?;
        let output =
            differ.fill(&root, &filling.options(options)).map_err(|error| tree.explain(error, &root))?;
        filling.flush(&root).map_err(|error| tree.explain(error, &root))?;
        Ok((Self { tree, applied: output.applied }, output))
    }
}

impl<S: StagedTree> StagedLayer for FilledTree<S> {
    fn applied(&self) -> Applied {
        self.applied
    }

    fn commit(self: Box<Self>, id: &LayerId) -> Result<()> {
        self.tree.publish(id)
    }
}
