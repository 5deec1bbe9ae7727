//! Room for trials where there is no home yet, or none that can be written to.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use graphdriver_archive::RootDir;
use graphdriver_core::{Error, Result};

use crate::link::LinkId;

/// A temporary directory outside of any home, or in one by a name that is no layer's.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    pub(crate) fn make(above: &Path) -> Result<Self> {
        let path = above.join(format!(".graphdriver-{}", LinkId::random()));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self { path }),
            Err(error) => Err(Error::io("mkdir", path, error)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let removed = RootDir::open(&self.path).and_then(|dir| dir.remove_contents());
        let removed = removed
            .map_err(Error::from)
            .and_then(|()| fs::remove_dir(&self.path).map_err(|error| Error::io("rmdir", &self.path, error)));
        if let Err(error) = removed {
            tracing::warn!(error = %error.report(), "a temporary directory stays");
        }
    }
}
