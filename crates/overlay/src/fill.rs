//! Unpacking an archive as a layer.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use graphdriver_archive::whiteout::OverlayXattrs;
use graphdriver_archive::{ApplyOptions, RootDir, WhiteoutMode};
use graphdriver_core::{Applied, Error, LayerApplyOptions, LayerId, Result};

use crate::committed;
use crate::exact::Kept;
use crate::home::Home;
use crate::layout::{DIFF, LayerDir, TAR_SPLIT};
use crate::lowers::{self, Lower};
use crate::mask;
use crate::mount::{Part, open_image};
use crate::stores::Stores;

/// Fills the existing layer `id`: unpacks aside, then takes the place of the empty directory. `Ok(None)`, nothing having been read, for
/// a layer that is mounted or not empty.
///
/// # Errors
/// `LayerUnknown`; `LayerInUse` when it was mounted or written to meanwhile, or is marked as committed; as `archive::apply`. The layer is empty still.
pub(crate) fn apply(
    home: &Home,
    id: &LayerId,
    tar: &mut dyn Read,
    options: &LayerApplyOptions,
) -> Result<Option<Applied>> {
    let layer = home.stores.require("apply to", id)?;
    layer.require_own("apply to")?;
    committed::require_unmarked("apply to", &layer)?;
    let diff = layer.diff();
    if home.references.is_mounted(&layer.merged())? || !is_empty(&diff)? {
        return Ok(None);
    }
    let temp_dir = home.temp_dirs_of(home.stores.store_of(&layer)).create()?;
    home.quotas.join(temp_dir.dir(), layer.path())?;
    let aside = temp_dir.path().join(DIFF);
    mask::make_root(home, &aside, mask::look_of_root(home, &diff)?)?;
    let root = RootDir::open(&aside)?;
    let unpacking = apply_options(home, options, lowers_of(&home.stores, &layer)?)?;
    let record = temp_dir.path().join(TAR_SPLIT);
    let (applied, mut kept) = Kept::apply(&root, tar, options, &unpacking, record)
        .map_err(|error| home.quotas.explain(error, &root))?;
    flush(home, &root)?;
    home.references.while_unused(id, &layer.merged(), || {
        // It may have been removed while its archive was unpacked.
        layer.require("apply to")?;
        if let Some(kept) = &mut kept {
            kept.place(home.stores.store_of(&layer).path(), layer.path(), id)?;
        }
        replace_empty(&aside, &diff)?;
        if let Some(kept) = &kept {
            kept.renew();
        }
        Ok(())
    })?;
    Ok(Some(applied))
}

/// Flushes what a layer was filled with, if that was asked for. No lock is held meanwhile.
pub(crate) fn flush(home: &Home, root: &RootDir) -> Result<()> {
    home.options.sync.flush(root).map_err(|error| error.path(root.path()))
}

/// How archives become layers here.
///
/// # Errors
/// `NotSupported` for a mask that no mount would look behind.
pub(crate) fn apply_options(
    home: &Home,
    options: &LayerApplyOptions,
    lowers: Vec<RootDir>,
) -> Result<ApplyOptions> {
    let xattrs = home.support.dialect.xattrs;
    let force_mask = options.force_mask.or(home.options.force_mask);
    mask::require_reader(force_mask, home.options.mount_program.as_deref())?;
    Ok(ApplyOptions {
        whiteouts: match home.mount_program {
            Some(_) => WhiteoutMode::Fuse,
            None => WhiteoutMode::Overlay(xattrs),
        },
        id_maps: options.id_maps.clone(),
        ignore_chown_errors: options.ignore_chown_errors || home.options.ignore_chown_errors,
        force_mask,
        in_user_namespace: xattrs == OverlayXattrs::User,
        lowers,
        digest: options.digest,
        ..ApplyOptions::default()
    })
}

/// What is below a child of `parent`, uppermost first.
pub(crate) fn with_parents(stores: &Stores, parent: &LayerDir) -> Result<Vec<RootDir>> {
    let mut roots = open_all(&parent.parts())?;
    roots.extend(lowers_of(stores, parent)?);
    Ok(roots)
}

/// What is below the layer, uppermost first.
pub(crate) fn lowers_of(stores: &Stores, layer: &LayerDir) -> Result<Vec<RootDir>> {
    open_all(lowers::parts(&lowers::resolve(stores, layer)?))
}

/// The parts, open; an image is mounted for it, and the contents of its files are not there.
pub(crate) fn open_all<'a>(parts: impl IntoIterator<Item = &'a Part<'static>>) -> Result<Vec<RootDir>> {
    let open = |part: &Part<'_>| match part {
        Part::Directory(path) => Ok(RootDir::open(path)?),
        Part::Image(path) => Ok(RootDir::from_fd(open_image(path)?, path)),
    };
    parts.into_iter().map(open).collect()
}

/// The contents of the files of images among the layer and those below, open.
pub(crate) fn objects(layer: &LayerDir, below: &[Lower]) -> Result<Vec<RootDir>> {
    let own = layer.objects();
    let directories = own.as_deref().into_iter().chain(lowers::objects(below));
    directories.map(|directory| Ok(RootDir::open(directory)?)).collect()
}

fn is_empty(dir: &Path) -> Result<bool> {
    let mut entries = fs::read_dir(dir).map_err(|error| Error::io("read directory", dir, error))?;
    Ok(entries.next().is_none())
}

/// `rename(2)` puts a directory in the place of an empty one, and of no other, in one step.
fn replace_empty(new: &Path, empty: &Path) -> Result<()> {
    fs::rename(new, empty).map_err(|error| match error.kind() {
        io::ErrorKind::DirectoryNotEmpty => Error::new(graphdriver_core::ErrorKind::LayerInUse, "apply to")
            .path(empty)
            .detail("something was written to the layer while the archive was unpacked"),
        _ => Error::io("rename", empty, error),
    })
}
