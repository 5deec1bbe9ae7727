//! Filling a layer that exists.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use graphdriver_archive::{Applied, ApplyOptions, RootDir, WhiteoutMode};
use graphdriver_core::{CreateOptions, Error, ErrorKind, LayerApplyOptions, LayerId, Result};

use crate::draft::Draft;
use crate::home::Home;

/// Unpacks aside, then takes the place of the empty branch. `Ok(None)`, nothing having been read, for a layer that is mounted or not empty.
///
/// # Errors
/// `LayerUnknown`; `LayerInUse` when it was mounted or written to meanwhile; as `archive::apply`. The layer is empty still.
pub(crate) fn apply(
    home: &Arc<Home>,
    id: &LayerId,
    tar: &mut dyn Read,
    options: &LayerApplyOptions,
) -> Result<Option<Applied>> {
    let ancestors = home.ancestors("apply to", id)?;
    let branch = home.diff(id);
    let mount_point = home.mount_point(id);
    if home.references.is_mounted(&mount_point)? || !is_empty(&branch)? {
        return Ok(None);
    }
    let create = CreateOptions { parent: ancestors.first().cloned(), ..CreateOptions::default() };
    let mut draft = Draft::new(home, &create)?;
    draft.look_like(&branch)?;
    let applied = draft.fill(tar, options)?;
    home.references.while_unused(id, &mount_point, || {
        // It may have been removed while its archive was unpacked.
        home.require("apply to", id)?;
        replace_empty(&draft.path(), &branch)
    })?;
    Ok(Some(applied))
}

/// How archives become branches.
pub(crate) fn apply_options(options: &LayerApplyOptions, lowers: Vec<RootDir>) -> ApplyOptions {
    ApplyOptions {
        // A base layer is mounted as it is, and has nothing to hide.
        whiteouts: if lowers.is_empty() { WhiteoutMode::Execute } else { WhiteoutMode::Aufs },
        id_maps: options.id_maps.clone(),
        ignore_chown_errors: options.ignore_chown_errors,
        force_mask: options.force_mask,
        lowers,
        digest: options.digest,
        ..ApplyOptions::default()
    }
}

fn is_empty(dir: &Path) -> Result<bool> {
    let mut entries = fs::read_dir(dir).map_err(|error| Error::io("read directory", dir, error))?;
    Ok(entries.next().is_none())
}

/// `rename(2)` puts a directory in the place of an empty one, and of no other, in one step.
fn replace_empty(new: &Path, empty: &Path) -> Result<()> {
    fs::rename(new, empty).map_err(|error| match error.kind() {
        io::ErrorKind::DirectoryNotEmpty => Error::new(ErrorKind::LayerInUse, "apply to")
            .path(empty)
            .detail("something was written to the layer while the archive was unpacked"),
        _ => Error::io("rename", empty, error),
    })
}
