//! Directories to try mounts with.

use std::borrow::Cow;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use graphdriver_archive::whiteout::OverlayXattrs;
use graphdriver_core::{Error, Result};
use graphdriver_sys::xattr;
use nix::errno::Errno;

use crate::mount::{self, Attributes, Dialect, OverlayMount, Parameters, Shape, Upper, Wishes};

/// The directories of a mount to try, on the home's file system.
pub(super) struct Trial {
    /// Has the directory `gone` and the file `file`.
    pub(super) lower: PathBuf,
    /// A second one below.
    pub(super) other: PathBuf,
    pub(super) upper: PathBuf,
    pub(super) work: PathBuf,
    pub(super) merged: PathBuf,
    scratch: PathBuf,
}

impl Trial {
    /// Makes the directories in `scratch`, which is empty.
    pub(super) fn prepare(scratch: &Path) -> Result<Self> {
        let trial = Self {
            lower: make_dir(scratch.join("lower"))?,
            other: make_dir(scratch.join("other"))?,
            upper: make_dir(scratch.join("upper"))?,
            work: make_dir(scratch.join("work"))?,
            merged: make_dir(scratch.join("merged"))?,
            scratch: scratch.to_owned(),
        };
        make_dir(trial.lower.join("gone"))?;
        let file = trial.lower.join("file");
        fs::write(&file, [0xFF]).map_err(|error| Error::io("write", file, error))?;
        Ok(trial)
    }

    /// An empty directory for a trial that brings its own.
    pub(super) fn room(&self) -> Result<PathBuf> {
        make_dir(self.scratch.join("room"))
    }

    /// Mounts all directories, writable, runs `work` on the mount, and unmounts.
    pub(super) fn mounted<T>(
        &self,
        dialect: Dialect,
        wishes: Wishes,
        work: impl FnOnce(&Path) -> Result<T>,
    ) -> Result<T> {
        let lowers = [self.lower.as_path(), self.other.as_path()].map(Cow::from);
        let upper = Some(Upper { directory: &self.upper, work: &self.work });
        self.stacked(dialect, wishes, upper, &lowers, &[], work)
    }

    /// The same without the upper directory, and with the second directory for data only.
    pub(super) fn mounted_on_data<T>(
        &self,
        dialect: Dialect,
        work: impl FnOnce(&Path) -> Result<T>,
    ) -> Result<T> {
        let [lower, data] = [self.lower.as_path(), self.other.as_path()].map(Cow::from);
        self.stacked(dialect, Wishes::default(), None, &[lower], &[data], work)
    }

    fn stacked<T>(
        &self,
        dialect: Dialect,
        wishes: Wishes,
        upper: Option<Upper<'_>>,
        lowers: &[Cow<'_, Path>],
        data_only: &[Cow<'_, Path>],
        work: impl FnOnce(&Path) -> Result<T>,
    ) -> Result<T> {
        let shape = Shape { upper: upper.is_some(), data_only: !data_only.is_empty() };
        let parameters = Parameters::new(&wishes, dialect, shape)?;
        let mount = OverlayMount {
            lowers,
            data_only,
            upper,
            target: &self.merged,
            parameters: &parameters,
            label: None,
            attributes: Attributes::NONE,
        };
        mount.attach(dialect.api)?;
        let result = work(&self.merged);
        mount::detach(&self.merged).and(result)
    }
}

pub(super) fn mark_opaque(dir: &Path, xattrs: OverlayXattrs) -> nix::Result<()> {
    let dir =
        fs::File::open(dir).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))?;
    xattr::fset(&dir, xattrs.opaque(), b"y", xattr::SetFlags::empty())
}

pub(super) fn make_dir(path: PathBuf) -> Result<PathBuf> {
    match DirBuilder::new().mode(0o700).create(&path) {
        Ok(()) => Ok(path),
        Err(error) => Err(Error::io("mkdir", path, error)),
    }
}
