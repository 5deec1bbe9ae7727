//! What a layer changes.
//!
//! `zfs diff` tells which inodes of a clone differ from the snapshot that it was made from, at a cost that follows their number. Its answer is only where to look: it names one of the names of a file, nothing below a
//! directory that was moved, and also what was changed and changed back. So every entry is compared in both trees, and the result is that of a walk.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use graphdriver_archive::{self as archive, CompareOptions, ContentCheck, Suspects};
use graphdriver_core::trees::Tree;
use graphdriver_core::{Change, Result, SyncMode, mount_info};

use crate::dataset::Dataset;
use crate::home::Home;
use crate::parse::{self, DiffLine};

/// What differs in the mounted `layer` from the mounted `base`, `None` unless the one was cloned from the other.
pub(crate) fn changes(home: &Home, layer: Tree<'_>, base: Tree<'_>) -> Result<Option<Vec<Change>>> {
    let (dataset, parent) = (home.dataset(layer.id)?, home.dataset(base.id)?);
    let Some(origin) = home.origin(&dataset)? else { return Ok(None) };
    if origin.split_once('@').is_none_or(|(origin, _)| origin != parent.as_str()) {
        return Ok(None);
    }
    // What was written through mappings of files in memory.
    SyncMode::Filesystem.flush(layer.root).and_then(|()| SyncMode::Filesystem.flush(base.root))?;
    let mut suspects = Suspects::new();
    // Somebody may have written to the parent since.
    for changed in [&dataset, &parent] {
        if !suspect_since(home, &origin, changed, &mut suspects)? {
            return Ok(None);
        }
    }
    let options = CompareOptions { content: ContentCheck::Content, ..CompareOptions::default() };
    let other_names = |inodes: &BTreeSet<u64>| Ok(archive::names_of(layer.root, inodes)?);
    Ok(Some(archive::changes_among(&suspects, layer.root, base.root, &options, &other_names)?))
}

/// Adds all that was changed in the mounted `dataset` since the snapshot. Where `zfs diff` does not tell, the answer is false.
fn suspect_since(home: &Home, snapshot: &str, dataset: &Dataset, suspects: &mut Suspects) -> Result<bool> {
    let output = match home.pool.programs.zfs(&["diff", "-F", "-H", "-t", snapshot, dataset.as_str()]) {
        Ok(output) => output,
        // It fails for files that are deleted and still open, for one.
        Err(failure) => {
            tracing::info!(%failure, "the layers are walked instead");
            return Ok(false);
        }
    };
    let mounts = mount_info::mounts()?;
    // The first is what `zfs diff` takes.
    let mount = mounts.iter().find(|mount| mount.source == dataset.as_str());
    let (Some(lines), Some(mount)) = (parse::diff(&output), mount) else {
        tracing::warn!(%dataset, "zfs diff printed something else than a list of changes; the layers are walked instead");
        return Ok(false);
    };
    for DiffLine { path, now } in &lines {
        for path in [Some(path), now.as_ref()].into_iter().flatten() {
            let Ok(below) = path.strip_prefix(&mount.mount_point) else { return Ok(false) };
            suspect(below, suspects);
        }
    }
    Ok(true)
}

/// Has the file looked at, and if it is a directory, the names in it.
fn suspect(path: &Path, suspects: &mut Suspects) {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(OsStr::as_bytes(name)),
        _ => None,
    });
    let place = names.fold(suspects.root(), |dir, name| suspects.add(dir, name));
    suspects.list(place);
}
