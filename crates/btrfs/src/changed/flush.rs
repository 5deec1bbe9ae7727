//! What was written to subvolumes, put into their trees.

use std::thread;

use graphdriver_archive::RootDir;
use graphdriver_core::{Error, Result, TempDirs};
use graphdriver_sys::btrfs::qgroup::{self, Counting};
use graphdriver_sys::btrfs::search;
use graphdriver_sys::btrfs::subvolume::SubvolumeFlags;

use crate::subvolume;

/// In a temporary directory.
const SNAPSHOT: &str = "flushed";

/// Writes the contents of the files of both subvolumes to disk, and what the file system holds back of names and metadata to its trees.
///
/// Done by snapshots that nobody needs, which take no more than that: `BTRFS_IOC_SYNC` writes all that was written to the file system, by whomever. It is the second choice, for a file system that is full or
/// to which this process must not write, and for one [that counts who shares what](counts_sharing).
///
/// # Errors
/// `NoSpace`; `Io`.
pub(super) fn flush(subvolumes: [&RootDir; 2], temp_dirs: &TempDirs) -> Result<()> {
    let [one, other] = subvolumes;
    if counts_sharing(one) {
        return flush_all(one);
    }
    // At the same time, one transaction serves for both.
    let flushed = thread::scope(|scope| {
        let other = scope.spawn(|| by_snapshot(other, temp_dirs));
        let one = by_snapshot(one, temp_dirs);
        one.and(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    flushed.or_else(|error| {
        tracing::debug!(error = %error.report(), "the whole file system is flushed instead");
        flush_all(one)
    })
}

/// Whether to delete a snapshot is work for the quotas of the file system: they go through all that it shares, or, on newer kernels and in large trees, count no more until all is counted anew
/// (`drop_subtree_threshold`). True where the kernel does not tell.
fn counts_sharing(subvolume: &RootDir) -> bool {
    match qgroup::counting(subvolume) {
        Some(counting) => counting == Counting::Shared,
        None => qgroup::is_enabled(subvolume) != Ok(false),
    }
}

fn flush_all(file: &RootDir) -> Result<()> {
    search::commit(file).map_err(|errno| Error::syscall("sync", file.path(), errno))
}

fn by_snapshot(subvolume: &RootDir, temp_dirs: &TempDirs) -> Result<()> {
    let temp_dir = temp_dirs.create()?;
    subvolume::snapshot(temp_dir.dir(), SNAPSHOT, subvolume, SubvolumeFlags::READ_ONLY)?;
    temp_dir.delete()
}
