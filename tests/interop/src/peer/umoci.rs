//! umoci: OCI images unpacked into a directory, whiteouts executed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{program, run};

pub(crate) const NAME: &str = "umoci";

/// An image in a layout of its own.
pub(crate) struct Image {
    reference: OsString,
}

impl Image {
    /// The image that is called `latest` in the layout `dir`.
    pub(crate) fn in_layout(dir: &Path) -> Self {
        let mut reference = dir.as_os_str().to_owned();
        reference.push(":latest");
        Self { reference }
    }

    /// An image without layers in a new layout.
    pub(crate) fn new(dir: &Path) -> Self {
        run(program(NAME).args(["init", "--layout"]).arg(dir));
        let image = Self::in_layout(dir);
        run(program(NAME).args(["new", "--image"]).arg(&image.reference));
        image
    }

    /// Adds an archive as it is.
    pub(crate) fn add_layer(&self, archive: &Path) {
        run(program(NAME).args(["raw", "add-layer", "--image"]).arg(&self.reference).arg(archive));
    }

    /// Unpacks all layers over each other.
    pub(crate) fn unpack(&self, dir: PathBuf) -> PathBuf {
        run(program(NAME).args(["raw", "unpack", "--image"]).arg(&self.reference).arg(&dir));
        dir
    }
}
