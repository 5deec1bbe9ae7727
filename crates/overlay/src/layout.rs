//! Where things are in a home.
//!
//! The layout is that of containers/storage's overlay and of Docker's overlay2, whose programs read what is written here:
//!
//! ```text
//! <home>/l/<LINK>          symbolic link to ../<id>/diff, a short name for mount options
//! <home>/tempdirs/         what is being made or deleted
//! <home>/<id>/diff/        what the layer adds: the upper directory, or a lower one of its children
//! <home>/<id>/link         LINK, without a newline
//! <home>/<id>/lower        the layers below, uppermost first: "l/<LINK>:l/<LINK>..."; none for a base layer
//! <home>/<id>/work         overlay's own
//! <home>/<id>/merged/      mount point
//! <home>/<id>/empty/       lower directory for layers that have none below
//! ```

use std::path::{Path, PathBuf};

use graphdriver_core::LayerId;

use crate::link::LinkId;

pub(crate) const LINKS: &str = "l";
pub(crate) const TEMP_DIRS: &str = "tempdirs";
pub(crate) const DIFF: &str = "diff";
pub(crate) const LINK: &str = "link";
pub(crate) const LOWER: &str = "lower";
pub(crate) const WORK: &str = "work";
pub(crate) const MERGED: &str = "merged";
pub(crate) const EMPTY: &str = "empty";

/// The paths of a home; all absolute.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    home: PathBuf,
}

impl Layout {
    /// `home` is absolute.
    pub(crate) fn new(home: PathBuf) -> Self {
        Self { home }
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    pub(crate) fn links(&self) -> PathBuf {
        self.home.join(LINKS)
    }

    pub(crate) fn link(&self, link: &LinkId) -> PathBuf {
        self.links().join(link.as_str())
    }

    pub(crate) fn layer(&self, id: &LayerId) -> PathBuf {
        self.home.join(id)
    }

    pub(crate) fn diff(&self, id: &LayerId) -> PathBuf {
        self.layer(id).join(DIFF)
    }

    pub(crate) fn merged(&self, id: &LayerId) -> PathBuf {
        self.layer(id).join(MERGED)
    }

    pub(crate) fn work(&self, id: &LayerId) -> PathBuf {
        self.layer(id).join(WORK)
    }
}
