//! Filling a layer that exists.

use std::fs;
use std::io::Read;
use std::sync::Arc;

use graphdriver_archive::{self as archive, Applied, ApplyOptions, WhiteoutMode};
use graphdriver_core::trees::empty_again;
use graphdriver_core::{Error, LayerApplyOptions, LayerId, Result};

use crate::home::Home;
use crate::quotas;
use crate::reference::Reference;

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
    match applied {
        Err(error) => Err(quotas::explain(error, home.quotas.noted(id)?)),
        applied => applied,
    }
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
