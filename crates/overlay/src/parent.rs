//! What a new layer takes from its parent.

use graphdriver_core::{Error, ErrorKind, LayerId, Result};

use crate::create::DirectoryLook;
use crate::layers;
use crate::layout::Layout;
use crate::link::{self, LinkId};
use crate::lowers::{self, MAX_LOWERS};

/// The parent of a layer that is being made.
#[derive(Debug)]
pub(crate) struct Parent {
    id: LayerId,
    link: LinkId,
    /// The contents of its children's `lower` files.
    pub(crate) lower: String,
    /// How the root directories of its children look, so that a mount shows what the parent showed.
    pub(crate) look: DirectoryLook,
}

impl Parent {
    /// # Errors
    /// `ParentUnknown`; `InvalidArgument` when there would be more layers below a child than the kernel stacks; `Io`.
    pub(crate) fn read(layout: &Layout, id: &LayerId) -> Result<Self> {
        Self::try_read(layout, id).map_err(|error| match layers::exists(layout, id) {
            // It may go while it is read.
            Ok(false) => unknown(id),
            _ => error,
        })
    }

    fn try_read(layout: &Layout, id: &LayerId) -> Result<Self> {
        layers::require(layout, "find parent", id)?;
        let link = link::ensure(layout, id)?;
        let (lower, count) = lowers::for_child(layout, id, &link)?;
        if count > MAX_LOWERS {
            let detail =
                format!("{count} layers below; the kernel stacks {MAX_LOWERS}, so it could not be mounted");
            return Err(Error::new(ErrorKind::InvalidArgument, "create").detail(detail));
        }
        Ok(Self { id: id.clone(), link, lower, look: DirectoryLook::of(&layout.diff(id))? })
    }

    /// Makes sure that the parent is there still, and is the same: a layer of that id that was made since has another link. The caller holds the home's lock.
    ///
    /// # Errors
    /// `ParentUnknown`; `Io`.
    pub(crate) fn check(&self, layout: &Layout) -> Result<()> {
        let same =
            layers::exists(layout, &self.id)? && link::read(layout, &self.id)?.as_ref() == Some(&self.link);
        if same { Ok(()) } else { Err(unknown(&self.id)) }
    }
}

fn unknown(id: &LayerId) -> Error {
    Error::parent_unknown("create", id)
}
