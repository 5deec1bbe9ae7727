//! Filling a layer before it exists.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use graphdriver_archive::{ApplyOptions, RootDir};
use graphdriver_core::{
    Applied, CreateOptions, Differ, DifferOutput, LayerApplyOptions, LayerId, Result, StagedLayer,
};

use crate::create::Draft;
use crate::exact::Kept;
use crate::fill;
use crate::home::Home;

/// A layer that is filled and has no name yet.
#[derive(Debug)]
pub(crate) struct Staged {
    home: Arc<Home>,
    draft: Draft,
    applied: Applied,
}

/// Unpacks `tar` as a layer on `create.parent`, in a temporary directory.
///
/// # Errors
/// As [`Draft::new`] and `archive::apply`. Nothing remains.
pub(crate) fn stage(
    home: &Arc<Home>,
    create: &CreateOptions,
    tar: &mut dyn Read,
    options: &LayerApplyOptions,
) -> Result<Staged> {
    let (draft, applied) = filled(home, create, options, |root, unpacking, record| {
        Kept::apply(root, tar, options, unpacking, record)
    })?;
    Ok(Staged { home: Arc::clone(home), draft, applied })
}

/// Lets `differ` fill a layer on `create.parent`, in a temporary directory.
///
/// # Errors
/// As [`Draft::new`] and as the differ. Nothing remains.
pub(crate) fn stage_with(
    home: &Arc<Home>,
    create: &CreateOptions,
    differ: &mut dyn Differ,
    options: &LayerApplyOptions,
) -> Result<(Staged, DifferOutput)> {
    let (draft, output) = filled(home, create, options, |root, unpacking, record| {
        let output = differ.fill(root, unpacking)?;
        let kept = match (&output.tar_split, output.applied.archive) {
            (Some(found), Some(archive)) if !options.skip_record => {
                Kept::adopt(root, found, archive, &options.id_maps, record)?
            }
            _ => None,
        };
        Ok((output, kept))
    })?;
    Ok((Staged { home: Arc::clone(home), draft, applied: output.applied }, output))
}

/// A draft that `fill` has filled, and what it says of that. `fill` is given the directory, how archives are unpacked into it, and where the archive's record can be kept.
fn filled<T>(
    home: &Home,
    create: &CreateOptions,
    options: &LayerApplyOptions,
    fill: impl FnOnce(&RootDir, &ApplyOptions, PathBuf) -> Result<(T, Option<Kept>)>,
) -> Result<(Draft, T)> {
    let draft = Draft::new(home, create)?;
    let filling = || {
        let lowers = match draft.parent() {
            Some(parent) => fill::with_parents(&home.stores, parent)?,
            None => Vec::new(),
        };
        let root = RootDir::open(draft.diff())?;
        let unpacking = fill::apply_options(home, options, lowers)?;
        let (output, record) =
            fill(&root, &unpacking, draft.record()).map_err(|error| home.quotas.explain(error, &root))?;
        let record = draft.finish_image(record)?;
        fill::flush(home, &root)?;
        Ok((output, record))
    };
    let (output, record) = filling().map_err(|error| draft.explain(error))?;
    Ok((draft.with_record(record), output))
}

impl StagedLayer for Staged {
    fn applied(&self) -> Applied {
        self.applied
    }

    fn commit(self: Box<Self>, id: &LayerId) -> Result<()> {
        let Self { home, draft, .. } = *self;
        draft.publish(&home, id)
    }
}
