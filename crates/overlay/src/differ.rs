//! Filling a layer before it exists, by other means than a tar.

use std::sync::Arc;

use graphdriver_archive::RootDir;
use graphdriver_core::{
    Applied, CreateOptions, Differ, DifferOutput, LayerApplyOptions, LayerId, Result, StagedLayer,
};

use crate::create::Draft;
use crate::exact::Kept;
use crate::fill;
use crate::home::Home;

/// A layer that a differ has filled, and that has no name yet.
#[derive(Debug)]
pub(crate) struct Filled {
    home: Arc<Home>,
    draft: Draft,
    applied: Applied,
}

/// Lets `differ` fill a layer on `create.parent`, in a temporary directory.
///
/// # Errors
/// As [`Draft::new`] and as the differ. Nothing remains.
pub(crate) fn stage(
    home: &Arc<Home>,
    create: &CreateOptions,
    differ: &mut dyn Differ,
    options: &LayerApplyOptions,
) -> Result<(Filled, DifferOutput)> {
    let draft = Draft::new(home, create)?;
    let (output, kept) = fill(home, &draft, differ, options).map_err(|error| draft.explain(error))?;
    let draft = draft.with_record(kept);
    Ok((Filled { home: Arc::clone(home), draft, applied: output.applied }, output))
}

fn fill(
    home: &Home,
    draft: &Draft,
    differ: &mut dyn Differ,
    options: &LayerApplyOptions,
) -> Result<(DifferOutput, Option<Kept>)> {
    let lowers = match draft.parent() {
        Some(parent) => fill::with_parents(&home.stores, parent)?,
        None => Vec::new(),
    };
    let root = RootDir::open(draft.diff())?;
    let output = differ
        .fill(&root, &fill::apply_options(home, options, lowers)?)
        .map_err(|error| home.quotas.explain(error, &root))?;
    let kept = match (&output.tar_split, output.applied.archive) {
        (Some(record), Some(archive)) if !options.skip_record => {
            Kept::adopt(&root, record, archive, &options.id_maps, draft.record())?
        }
        _ => None,
    };
    let kept = draft.finish_image(kept)?;
    fill::flush(home, &root)?;
    Ok((output, kept))
}

impl StagedLayer for Filled {
    fn applied(&self) -> Applied {
        self.applied
    }

    fn commit(self: Box<Self>, id: &LayerId) -> Result<()> {
        let Self { home, draft, .. } = *self;
        draft.publish(&home, id)
    }
}
