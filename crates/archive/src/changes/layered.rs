//! What a layer's own directories say that it changes.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::parents::sort_with_parents;
use crate::change::{Change, ChangeKind};
use crate::error::Result;
use crate::stack::{Below, Entry, LayerStack, LayerWalk, Purpose};

/// What a layer, the `own` uppermost directories of `stack`, changes in what the others show, sorted by path. Costs what the layer holds, not
/// what lies below it.
///
/// Whiteouts are deletions. A directory that is opaque, or was renamed, and takes the place of one below is listed as deleted and all that shows in it as
/// added; one that takes the place of nothing (the kernel marks every new directory opaque) is just new. Directories that equal the one below in mode,
/// owner, time and attributes are there only because something in them changed, and not listed for their own sake. Directories above something
/// added or deleted are listed as modified; those above a file that is only modified need not be.
///
/// # Errors
/// The kind of the failed system call; `Io` and `PathEscape` for redirects that cannot be followed.
#[doc(alias = "Changes")]
#[doc(alias = "OverlayChanges")]
pub fn layer_changes(stack: &LayerStack, own: usize) -> Result<Vec<Change>> {
    let mut walk = LayerWalk::new(stack, own, Purpose::Changes);
    let mut found = Vec::new();
    while let Some(entry) = walk.next_entry()? {
        if let Some(kind) = kind(&entry) {
            let path = [&b"/"[..], walk.entry_path()].concat();
            found.push(Change { path: OsString::from_vec(path).into(), kind });
        }
    }
    Ok(sort_with_parents(found, |change| change.kind != ChangeKind::Modify))
}

/// The bytes of all files in a layer, the `own` uppermost directories of `stack`: their apparent sizes, each inode once, directories not counted.
///
/// # Errors
/// As [`layer_changes`].
#[doc(alias = "DiffSize")]
pub fn layer_size(stack: &LayerStack, own: usize) -> Result<u64> {
    let mut walk = LayerWalk::new(stack, own, Purpose::Sizes);
    let mut linked = HashSet::new();
    let mut bytes = 0_u64;
    while let Some(entry) = walk.next_entry()? {
        let Entry::File { stat, .. } = entry else { continue };
        if stat.st_nlink < 2 || linked.insert((stat.st_dev, stat.st_ino)) {
            bytes = bytes.saturating_add(u64::try_from(stat.st_size).unwrap_or(0));
        }
    }
    Ok(bytes)
}

fn kind(entry: &Entry) -> Option<ChangeKind> {
    match entry {
        Entry::Opaque(_) => None,
        Entry::Whiteout | Entry::Dir { replaces: true, .. } => Some(ChangeKind::Delete),
        Entry::File { below, .. } | Entry::Dir { below, .. } => match below {
            Below::Nothing => Some(ChangeKind::Add),
            Below::Dir { differs: false } => None,
            Below::File | Below::Dir { differs: true } => Some(ChangeKind::Modify),
        },
    }
}
