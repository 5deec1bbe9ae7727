//! What a new layer takes from its parent.

use graphdriver_core::{Error, ErrorKind, LayerId, Result};
use nix::errno::Errno;

use crate::create::DirectoryLook;
use crate::home::Home;
use crate::ids;
use crate::layout::LayerDir;
use crate::link::{self, LinkId};
use crate::lowers::{self, MAX_LOWERS};
use crate::mask;
use crate::stores::Stores;

/// How often a parent is read again that was removed and made anew meanwhile.
const RETRIES: usize = 16;

/// The parent of a layer that is being made.
#[derive(Debug)]
pub(crate) struct Parent {
    pub(crate) layer: LayerDir,
    link: LinkId,
    /// The contents of its children's `lower` files.
    pub(crate) lower: String,
    /// How the root directories of its children look, so that a mount shows what the parent showed.
    pub(crate) look: DirectoryLook,
}

impl Parent {
    /// # Errors
    /// `ParentUnknown`; `InvalidArgument` when there would be more layers below a child than the kernel stacks; `Io`.
    pub(crate) fn read(home: &Home, id: &LayerId) -> Result<Self> {
        let mut read = Self::try_read(home, id);
        for _ in 0..RETRIES {
            match read {
                Err(error) if has_vanished(&error) => {
                    if home.stores.find(id)?.is_none() {
                        return Err(unknown(id));
                    }
                    // It went while it was read, and another one of its name came.
                    read = Self::try_read(home, id);
                }
                read => return read,
            }
        }
        read
    }

    fn try_read(home: &Home, id: &LayerId) -> Result<Self> {
        let stores = &home.stores;
        let layer = stores.require("find parent", id)?;
        // Children read its directories without its lock.
        ids::finish_pending(home, &layer)?;
        let link = link::ensure(stores, &layer)?;
        let (lower, count) = lowers::for_child(&layer, &link)?;
        require_room(stores, &layer, count)?;
        let look = mask::look_of_root(home, &layer.diff())?;
        Ok(Self { layer, link, lower, look })
    }

    /// Makes sure that the parent is there still, and is the same: a layer of that id that was made since has another link. The caller holds the store's lock.
    ///
    /// # Errors
    /// `ParentUnknown`; `Io`.
    pub(crate) fn check(&self) -> Result<()> {
        let same = self.layer.exists()?
            && match link::read(&self.layer)? {
                Some(link) => link == self.link,
                // Lost where it is not ours to mend.
                None => self.layer.is_foreign(),
            };
        if same { Ok(()) } else { Err(unknown(self.layer.id())) }
    }
}

/// # Errors
/// `InvalidArgument` when a child of the layer, which would have `count` layers below, could never be mounted.
fn require_room(stores: &Stores, layer: &LayerDir, count: usize) -> Result<()> {
    // One that is kept as an image is two directories to the kernel.
    let directories = if count > MAX_LOWERS / 2 {
        let below = lowers::resolve(stores, layer)?;
        count + lowers::objects(&below).count() + usize::from(layer.is_image())
    } else {
        count
    };
    if directories <= MAX_LOWERS {
        return Ok(());
    }
    let images = if directories > count { ", and an image for two" } else { "" };
    let detail =
        format!("{count} layers below; the kernel stacks {MAX_LOWERS}{images}, so it could not be mounted");
    Err(Error::new(ErrorKind::InvalidArgument, "create").detail(detail))
}

fn has_vanished(error: &Error) -> bool {
    error.kind() == ErrorKind::LayerUnknown || error.errno() == Some(Errno::ENOENT)
}

fn unknown(id: &LayerId) -> Error {
    Error::parent_unknown("create", id)
}
