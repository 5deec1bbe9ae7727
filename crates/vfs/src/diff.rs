//! What a layer changes, and changing it.
//!
//! Both layers are walked, as in the general way; what is better here is that the moment is known at which the one was made as a copy of the other. Of the files that nobody has touched
//! since, contents need no comparing, and of the others, no edit is missed.

use std::fs;
use std::io::Read;
use std::sync::Arc;

use graphdriver_archive::{
    self as archive, Applied, ApplyOptions, CompareOptions, ContentCheck, Export, ExportOptions, RootDir,
    WhiteoutMode,
};
use graphdriver_core::trees::empty_again;
use graphdriver_core::{Change, Error, IdMaps, LayerApplyOptions, LayerDiff, LayerId, Result};

use crate::home::Home;
use crate::reference::Reference;

/// The change set as a tar, `None` unless `base` is the layer's parent or there is no base.
pub(crate) fn diff(
    home: &Arc<Home>,
    id: &LayerId,
    base: Option<&LayerId>,
    id_maps: &IdMaps,
) -> Result<Option<LayerDiff>> {
    let Some(pair) = Pair::open(home, id, base)? else { return Ok(None) };
    let options = ExportOptions { id_maps: id_maps.clone() };
    let export = if pair.base.is_some() {
        Export::changes(&pair.root, pair.changes()?, options)?
    } else {
        Export::tree(&pair.root, options)?
    };
    Ok(Some(LayerDiff::new(export).keeping(pair.reference)))
}

/// The changed paths, `None` unless `base` is the layer's parent or there is no base.
pub(crate) fn changes(home: &Arc<Home>, id: &LayerId, base: Option<&LayerId>) -> Result<Option<Vec<Change>>> {
    Pair::open(home, id, base)?.map(|pair| pair.changes()).transpose()
}

/// The bytes of changed files, `None` unless `base` is the layer's parent or there is no base.
pub(crate) fn diff_size(home: &Arc<Home>, id: &LayerId, base: Option<&LayerId>) -> Result<Option<u64>> {
    let Some(pair) = Pair::open(home, id, base)? else { return Ok(None) };
    Ok(Some(archive::changes_size(&pair.root, &pair.changes()?)?))
}

/// A layer and the parent it is compared with, neither of which can be removed meanwhile.
struct Pair {
    root: RootDir,
    reference: Reference,
    base: Option<Base>,
}

struct Base {
    root: RootDir,
    options: CompareOptions,
    _reference: Reference,
}

impl Pair {
    fn open(home: &Arc<Home>, id: &LayerId, base: Option<&LayerId>) -> Result<Option<Self>> {
        let reference = Reference::take(home, "diff", id)?;
        let base = match base {
            None => None,
            Some(base) => {
                let held = Reference::take(home, "diff", base)?;
                let Some(note) = home.note(id)?.filter(|note| note.parent == *base) else { return Ok(None) };
                let options = CompareOptions {
                    content: ContentCheck::CopiedAt(note.copied_at),
                    ..CompareOptions::default()
                };
                Some(Base { root: home.layers.open("diff", base)?, options, _reference: held })
            }
        };
        Ok(Some(Self { root: home.layers.open("diff", id)?, reference, base }))
    }

    fn changes(&self) -> Result<Vec<Change>> {
        let changes = match &self.base {
            None => archive::changes(&self.root, None, &CompareOptions::default()),
            Some(base) => archive::changes(&self.root, Some(&base.root), &base.options),
        };
        Ok(changes?)
    }
}

/// Fills the existing layer, carrying out whiteouts.
///
/// # Errors
/// `LayerUnknown`; as [`archive::apply`]. A layer that was empty is empty again, otherwise what was unpacked until then stays.
pub(crate) fn apply(
    home: &Arc<Home>,
    id: &LayerId,
    tar: &mut dyn Read,
    options: &LayerApplyOptions,
) -> Result<Applied> {
    let _reference = Reference::take(home, "apply to", id)?;
    let root = home.layers.open("apply to", id)?;
    let failed = |error| Error::io("stat", root.path(), error);
    let before = fs::metadata(root.path()).map_err(failed)?;
    let was_empty = fs::read_dir(root.path()).map_err(failed)?.next().is_none();
    let flush = || home.options.sync.flush(&root).map_err(|error| error.path(root.path()));
    let applied = archive::apply(&root, tar, &apply_options(home, options))
        .map_err(Error::from)
        .and_then(|applied| flush().map(|()| applied));
    if applied.is_err()
        && was_empty
        && let Err(error) = empty_again(&root, &before)
    {
        tracing::warn!(layer = %id, error = %error.report(), "what was unpacked before the failure stays");
    }
    applied.map_err(|error| home.quotas.explain(error, &root))
}

/// How archives become layers here.
pub(crate) fn apply_options(home: &Home, options: &LayerApplyOptions) -> ApplyOptions {
    ApplyOptions {
        whiteouts: WhiteoutMode::Execute,
        id_maps: options.id_maps.clone(),
        ignore_chown_errors: options.ignore_chown_errors || home.options.ignore_chown_errors,
        force_mask: options.force_mask,
        in_user_namespace: home.in_user_namespace,
        digest: options.digest,
        ..ApplyOptions::default()
    }
}
