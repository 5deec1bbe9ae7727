//! What was written to subvolumes, put into their trees.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use graphdriver_archive::RootDir;
use graphdriver_core::{Error, Result, TempDir, TempDirs};
use graphdriver_sys::btrfs::item;
use graphdriver_sys::btrfs::qgroup::{self, Counting};
use graphdriver_sys::btrfs::search::{self, Buffer, Key, Range, Search, TREE_OF_FILE};
use graphdriver_sys::btrfs::subvolume::SubvolumeFlags;
use nix::sys::stat::fstat;

use crate::subvolume;

/// In a temporary directory.
const SNAPSHOT: &str = "flushed";

/// Calls `read` when the contents of the files of both subvolumes, and what the file system holds back of names and metadata, are in its trees.
///
/// Done by snapshots that nobody needs, which take no more than that: `BTRFS_IOC_SYNC` writes all that was written to the file system, by whomever. It is the second choice, for a file system that is full or
/// to which this process must not write, and for one [that counts who shares what](counts_sharing).
///
/// # Errors
/// `NoSpace`; `Io`; as `read`.
pub(super) fn with_flushed<T>(
    subvolumes: [&RootDir; 2],
    temp_dirs: &TempDirs,
    read: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let [one, other] = subvolumes;
    if counts_sharing(one) {
        flush_all(one)?;
        return read();
    }
    thread::scope(|scope| {
        let temp_dirs = temp_dirs.create().and_then(|one| Ok([one, temp_dirs.create()?]));
        // At the same time, one transaction serves for both.
        let flushes = temp_dirs.and_then(|[for_one, for_other]| {
            Ok([Flush::begin(scope, one, for_one)?, Flush::begin(scope, other, for_other)?])
        });
        match flushes.and_then(|flushes| flushes.iter().try_for_each(Flush::wait_for_tree).map(|()| flushes))
        {
            Ok(flushes) => {
                let found = read()?;
                flushes.into_iter().try_for_each(Flush::end)?;
                Ok(found)
            }
            Err(error) => {
                tracing::debug!(error = %error.report(), "the whole file system is flushed instead");
                flush_all(one)?;
                read()
            }
        }
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

/// A snapshot on its way, made and deleted by a thread of its own.
struct Flush {
    /// The directory that it is made in.
    dir: File,
    /// How that ended.
    made: Receiver<Result<()>>,
}

impl Flush {
    fn begin<'scope>(
        scope: &'scope Scope<'scope, '_>,
        subvolume: &'scope RootDir,
        temp_dir: TempDir,
    ) -> Result<Self> {
        let dir = temp_dir.dir().as_fd().try_clone_to_owned();
        let dir = dir.map_err(|error| Error::io("dup", temp_dir.path(), error))?.into();
        let (sender, made) = mpsc::channel();
        scope.spawn(move || {
            // Nobody listens any more if the other snapshot has failed.
            let _ = sender.send(snapshot(subvolume, &temp_dir));
            if let Err(error) = temp_dir.delete() {
                tracing::warn!(error = %error.report(), "a temporary snapshot stays until the home is opened next");
            }
        });
        Ok(Self { dir, made })
    }

    /// Waits until the tree of the subvolume holds everything. The transaction has to be written to disk then, which takes longer than all before it, and which who reads trees need not wait for.
    ///
    /// That moment shows in the directory of the snapshot: its transaction makes all that is held back part of the trees, copies the root of the subvolume's tree, and then enters the snapshot's name, in this order and while nobody else
    /// may change anything.
    fn wait_for_tree(&self) -> Result<()> {
        let (started, mut buffer) = (Instant::now(), Buffer::new());
        loop {
            match self.made.recv_timeout(between_looks(started.elapsed())) {
                Ok(made) => return made,
                Err(RecvTimeoutError::Timeout)
                    if has_names(self.dir.as_fd(), &mut buffer).unwrap_or(false) =>
                {
                    return Ok(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    /// Waits for the snapshot, if that has not been done.
    fn end(self) -> Result<()> {
        self.made.recv().unwrap_or(Ok(()))
    }
}

/// A transaction takes a millisecond in memory and seconds on a busy disk.
fn between_looks(waited: Duration) -> Duration {
    (waited / 16).clamp(Duration::from_micros(200), Duration::from_millis(10))
}

fn snapshot(subvolume: &RootDir, temp_dir: &TempDir) -> Result<()> {
    subvolume::snapshot(temp_dir.dir(), SNAPSHOT, subvolume, SubvolumeFlags::READ_ONLY).map(drop)
}

/// Whether the file system's tree has any name in the directory. To ask in the usual way would be to wait for who is making it.
fn has_names(dir: BorrowedFd<'_>, buffer: &mut Buffer) -> nix::Result<bool> {
    let object = fstat(dir)?.st_ino;
    let [first, last] = [0, u64::MAX].map(|offset| Key { object, item_type: item::DIR_ITEM, offset });
    let range = Range { tree: TREE_OF_FILE, first, last, since: 0 };
    Ok(Search::new(dir, range, buffer).at_most(1).next_item()?.is_some())
}
