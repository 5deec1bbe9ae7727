//! Finding what a layer says.

use super::finder::Batch;
use crate::error::Result;
use crate::stack::{Entry, LayerStack, LayerWalk, Purpose};

/// A layer's entries, one per step.
pub(super) struct LayerEntries(LayerWalk);

impl LayerEntries {
    /// Those of the `own` uppermost directories of `stack`.
    pub(super) fn new(stack: &LayerStack, own: usize) -> Self {
        Self(LayerWalk::new(stack, own, Purpose::Contents))
    }

    /// Finds one entry; false at the end.
    pub(super) fn step(&mut self, batch: &mut Batch) -> Result<bool> {
        let Some(entry) = self.0.next_entry()? else { return Ok(false) };
        let path = self.0.entry_path();
        match entry {
            Entry::Whiteout => batch.whiteout(path),
            Entry::Opaque(stat) => batch.opaque(path, stat),
            Entry::File { found, .. } => {
                if let Some(found) = found {
                    batch.file(path, found);
                }
            }
            Entry::Dir { found, replaces, .. } => {
                let stat = found.stat;
                batch.file(path, found);
                if replaces {
                    batch.opaque(path, stat);
                }
            }
        }
        Ok(true)
    }
}
