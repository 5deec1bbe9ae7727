//! Filling a layer before it exists.

use std::io::Read;
use std::sync::Arc;

use graphdriver_archive as archive;
use graphdriver_core::{Applied, CreateOptions, LayerApplyOptions, LayerId, Result, StagedLayer};

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
    let draft = Draft::new(home, create)?;
    let (applied, kept) = unpack(home, &draft, tar, options).map_err(|error| draft.explain(error))?;
    let draft = draft.with_record(kept);
    Ok(Staged { home: Arc::clone(home), draft, applied })
}

fn unpack(
    home: &Home,
    draft: &Draft,
    tar: &mut dyn Read,
    options: &LayerApplyOptions,
) -> Result<(Applied, Option<Kept>)> {
    let lowers = match draft.parent() {
        Some(parent) => fill::with_parents(&home.stores, parent)?,
        None => Vec::new(),
    };
    let root = archive::RootDir::open(draft.diff())?;
    let unpacking = fill::apply_options(home, options, lowers)?;
    let (applied, record) = Kept::apply(&root, tar, options, &unpacking, draft.record())
        .map_err(|error| home.quotas.explain(error, &root))?;
    let record = draft.finish_image(record)?;
    fill::flush(home, &root)?;
    Ok((applied, record))
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
