//! What a layer changes.
//!
//! Found by the ages of the trees' blocks, when one layer is a snapshot of the other, directly or through others, or both are snapshots of a third. For other pairs, and where
//! trees may not be searched, the answer is `None`.

use std::io;
use std::sync::Arc;

use graphdriver_archive::{self as archive, CompareOptions, Export, ExportOptions, RootDir};
use graphdriver_core::{Change, IdMaps, LayerDiff, LayerId, Result};
use nix::errno::Errno;

use crate::changed;
use crate::home::Home;
use crate::reference::Reference;

/// The change set as a tar.
pub(crate) fn diff(
    home: &Arc<Home>,
    id: &LayerId,
    base: Option<&LayerId>,
    id_maps: &IdMaps,
) -> Result<Option<LayerDiff>> {
    let options = ExportOptions { id_maps: id_maps.clone() };
    let pair = Pair::open(home, id, base)?;
    let export = if base.is_some() {
        let Some(changes) = pair.changes(home, id)? else { return Ok(None) };
        Export::changes(&pair.root, changes, options)?
    } else {
        Export::tree(&pair.root, options)?
    };
    Ok(Some(LayerDiff::new(export).keeping(pair.reference)))
}

/// The changed paths.
pub(crate) fn changes(home: &Arc<Home>, id: &LayerId, base: Option<&LayerId>) -> Result<Option<Vec<Change>>> {
    Pair::open(home, id, base)?.changes(home, id)
}

/// The bytes of changed files.
pub(crate) fn diff_size(home: &Arc<Home>, id: &LayerId, base: Option<&LayerId>) -> Result<Option<u64>> {
    let pair = Pair::open(home, id, base)?;
    let Some(changes) = pair.changes(home, id)? else { return Ok(None) };
    Ok(Some(archive::changes_size(&pair.root, &changes)?))
}

/// Why changes are found by walking both trees in full, in the kernel's words, when they are.
pub(crate) fn unavailable(home: &Home) -> Option<String> {
    let reason = match RootDir::open(home.layers.path()) {
        Ok(root) => changed::unavailable(&root)?,
        Err(error) => error.errno().unwrap_or(Errno::EIO),
    };
    let advice =
        if reason == Errno::EPERM { " (it takes CAP_SYS_ADMIN in the initial user namespace)" } else { "" };
    Some(format!("the file system's trees cannot be searched: {}{advice}", io::Error::from(reason)))
}

/// A layer and what it is compared with, neither of which can be removed meanwhile.
struct Pair {
    root: RootDir,
    reference: Reference,
    base: Option<(RootDir, Reference)>,
}

impl Pair {
    fn open(home: &Arc<Home>, id: &LayerId, base: Option<&LayerId>) -> Result<Self> {
        let open = |id| -> Result<_> {
            let reference = Reference::take(home, "diff", id)?;
            Ok((home.layers.open("diff", id)?, reference))
        };
        let (root, reference) = open(id)?;
        Ok(Self { root, reference, base: base.map(open).transpose()? })
    }

    /// `None` when they are to be compared in full.
    fn changes(&self, home: &Home, id: &LayerId) -> Result<Option<Vec<Change>>> {
        let Some((base, _)) = &self.base else {
            return Ok(Some(archive::changes(&self.root, None, &CompareOptions::default())?));
        };
        if let Some(reason) = unavailable(home) {
            tracing::info!(layer = %id, %reason, "comparing both layers in full");
            return Ok(None);
        }
        let found = changed::changes(&self.root, base)?;
        if found.is_none() {
            tracing::info!(
                layer = %id, base = ?base.path(),
                "comparing both layers in full, since nothing says when they were one"
            );
        }
        Ok(found)
    }
}
