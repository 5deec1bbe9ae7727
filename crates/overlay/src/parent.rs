//! What a new layer takes from its parent.

use graphdriver_core::{Error, ErrorKind, LayerId, Result};
use nix::errno::Errno;

use crate::create::DirectoryLook;
use crate::layers;
use crate::layout::Layout;
use crate::link::{self, LinkId};
use crate::lowers::{self, MAX_LOWERS};

/// How often a parent is read again that was removed and made anew meanwhile.
const RETRIES: usize = 16;

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
        let mut read = Self::try_read(layout, id);
        for _ in 0..RETRIES {
            match read {
                Err(error) if has_vanished(&error) => {
                    if !layers::exists(layout, id)? {
                        return Err(unknown(id));
                    }
                    // It went while it was read, and another one of its name came.
                    read = Self::try_read(layout, id);
                }
                read => return read,
            }
        }
        read
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

fn has_vanished(error: &Error) -> bool {
    error.kind() == ErrorKind::LayerUnknown || error.errno() == Some(Errno::ENOENT)
}

fn unknown(id: &LayerId) -> Error {
    Error::parent_unknown("create", id)
}
