//! Writing what a layer says.

use super::writer::EntryWriter;
use crate::error::Result;
use crate::stack::{Entry, LayerStack, LayerWalk, Purpose};

/// A layer's entries, one per step.
pub(super) struct LayerEntries(LayerWalk);

impl LayerEntries {
    /// Those of the `own` uppermost directories of `stack`.
    pub(super) fn new(stack: &LayerStack, own: usize) -> Self {
        Self(LayerWalk::new(stack, own, Purpose::Contents))
    }

    /// Writes one entry; false at the end.
    pub(super) fn step(&mut self, writer: &mut EntryWriter) -> Result<bool> {
        let Some(entry) = self.0.next_entry()? else { return Ok(false) };
        let path = self.0.entry_path();
        match entry {
            Entry::Whiteout => writer.whiteout(path),
            Entry::Opaque(stat) => writer.opaque(path, &stat)?,
            Entry::File { found, .. } => {
                if let Some(found) = found {
                    writer.file(path, found)?;
                }
            }
            Entry::Dir { found, replaces, .. } => {
                let stat = found.stat;
                writer.file(path, found)?;
                if replaces {
                    writer.opaque(path, &stat)?;
                }
            }
        }
        Ok(true)
    }
}
