//! Docker's mark of a layer that others lie on: an empty file `committed`.
//!
//! Docker writes it into the parent whenever a layer is made, never takes it away, and mounts a layer that has it read-only. It is honoured wherever it is
//! found, and written in homes of Docker's. containers/storage neither writes nor reads it, and lets parents be written to.

use std::fs;
use std::io;

use graphdriver_core::{Error, ErrorKind, Result, write_new};

use crate::layout::LayerDir;

const COMMITTED: &str = "committed";

/// The name of Docker's homes.
const DOCKERS_HOME: &str = "overlay2";

/// Whether nothing may be written to the layer any more.
pub(crate) fn is_marked(layer: &LayerDir) -> Result<bool> {
    let path = layer.path().join(COMMITTED);
    match fs::symlink_metadata(&path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(false)
        }
        Err(error) => Err(Error::io("stat", path, error)),
    }
}

/// # Errors
/// `LayerInUse` for a layer that is marked.
pub(crate) fn require_unmarked(operation: &'static str, layer: &LayerDir) -> Result<()> {
    if is_marked(layer)? {
        let detail = "Docker has marked it as one that other layers lie on";
        return Err(Error::new(ErrorKind::LayerInUse, operation)
            .path(layer.path().join(COMMITTED))
            .detail(detail));
    }
    Ok(())
}

/// A mark that was just set; dropped before the child is there, it is taken away.
#[must_use = "dropping the mark takes it away"]
#[derive(Debug)]
pub(crate) struct Mark<'a> {
    layer: &'a LayerDir,
    stays: bool,
}

impl<'a> Mark<'a> {
    /// Marks the parent of a layer that is being made, where Docker would; `None` where it would not, or did already.
    pub(crate) fn set(layer: &'a LayerDir) -> Result<Option<Self>> {
        let in_dockers_home =
            layer.path().parent().and_then(|home| home.file_name()) == Some(DOCKERS_HOME.as_ref());
        if !in_dockers_home || layer.is_foreign() || is_marked(layer)? {
            return Ok(None);
        }
        let path = layer.path();
        let dir = fs::File::open(path).map_err(|error| Error::io("open", path, error))?;
        write_new(&dir, COMMITTED, b"", 0o600).map_err(|error| error.path(path.join(COMMITTED)))?;
        Ok(Some(Self { layer, stays: false }))
    }

    /// The child is there.
    pub(crate) fn keep(mut self) {
        self.stays = true;
    }
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        let path = self.layer.path().join(COMMITTED);
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(?path, %error, "the mark of a parent stays, though its child was not made");
        }
    }
}
