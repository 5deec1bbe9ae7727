//! A regular file on its way.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::metadata::{Metadata, Rules, Target};
use crate::error::Result;

/// A file that contents are being written to. Knows what it gets once they are.
#[derive(Debug)]
pub(super) struct OpenFile {
    file: File,
    path: PathBuf,
    metadata: Metadata,
    rules: Arc<Rules>,
    /// Dropped after `file`, so that the count never falls short of the descriptors.
    _count: Counted,
}

impl OpenFile {
    /// A file made for the entry at `path`; counted in `open_files` while it is open.
    pub(super) fn new(
        file: File,
        path: PathBuf,
        metadata: Metadata,
        rules: Arc<Rules>,
        open_files: Arc<AtomicUsize>,
    ) -> Self {
        Self { file, path, metadata, rules, _count: Counted::new(open_files) }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Memory that the metadata takes while the file waits.
    pub(super) fn metadata_bytes(&self) -> usize {
        self.metadata.xattr_bytes()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its metadata and closes it.
    ///
    /// # Errors
    /// The kind of the failed system call.
    pub(super) fn finish(self) -> Result<()> {
        self.metadata.set(Target::Open(self.file.as_fd()), &self.path, &self.rules)
    }
}

/// One in a count of open files.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
