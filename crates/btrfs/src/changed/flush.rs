//! What was written to subvolumes, put into their trees.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use graphdriver_archive::RootDir;
use graphdriver_core::{Error, ErrorKind, LayerId, Result, TempDir, TempDirs};
use graphdriver_sys::btrfs::item;
use graphdriver_sys::btrfs::qgroup::{self, Counting};
use graphdriver_sys::btrfs::search::{self, Buffer, Key, Range, Search, TREE_OF_FILE};
use graphdriver_sys::btrfs::subvolume::{self as ioctl, SubvolumeFlags};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};

use crate::subvolume;

/// In a temporary directory.
const SNAPSHOT: &str = "flushed";

/// Flushes subvolumes.
///
/// Done by snapshots that nobody needs, which take no more than that: `BTRFS_IOC_SYNC` writes all that was written to the file system, by whomever. It is the second choice, for a file system that is full or
/// to which this process must not write, and for one [that counts who shares what](counts_sharing).
#[derive(Debug)]
pub(crate) struct Flusher {
    temp_dirs: TempDirs,
    /// Those that make snapshots and delete them, by the layer with which they are [waited for](Self::finish).
    threads: Mutex<HashMap<LayerId, Vec<JoinHandle<()>>>>,
}

impl Flusher {
    /// Makes its snapshots in such directories.
    pub(crate) fn new(temp_dirs: TempDirs) -> Self {
        Self { temp_dirs, threads: Mutex::default() }
    }

    /// Returns when the contents of the files of both subvolumes, and what the file system holds back of names and metadata, are in its trees. The rest is done by the time that [`finish`](Self::finish) is called for the layer `id`.
    ///
    /// # Errors
    /// `NoSpace`; `Io`.
    pub(crate) fn flush(&self, id: &LayerId, subvolumes: [&RootDir; 2]) -> Result<()> {
        let [one, _] = subvolumes;
        if counts_sharing(one) {
            return flush_all(one);
        }
        let snapshots = self.begin(id, subvolumes);
        snapshots.and_then(|snapshots| snapshots.iter().try_for_each(Snapshot::wait_for_tree)).or_else(
            |error| {
                tracing::debug!(error = %error.report(), "the whole file system is flushed instead");
                flush_all(one)
            },
        )
    }

    fn begin(&self, id: &LayerId, subvolumes: [&RootDir; 2]) -> Result<[Snapshot; 2]> {
        let temp_dirs = [self.temp_dirs.create()?, self.temp_dirs.create()?];
        for (subvolume, temp_dir) in subvolumes.iter().zip(&temp_dirs) {
            write_contents(subvolume, temp_dir);
        }
        let ([one, other], [for_one, for_other]) = (subvolumes, temp_dirs);
        Ok([self.snapshot(id, one, for_one)?, self.snapshot(id, other, for_other)?])
    }

    /// Has a thread make a snapshot of the subvolume, and delete it.
    fn snapshot(&self, id: &LayerId, subvolume: &RootDir, temp_dir: TempDir) -> Result<Snapshot> {
        let (subvolume, dir) = (subvolume.clone(), temp_dir.dir().clone());
        let path = dir.path().to_owned();
        let (sender, made) = mpsc::channel();
        let work = move || {
            let made = subvolume::snapshot(temp_dir.dir(), SNAPSHOT, &subvolume, SubvolumeFlags::READ_ONLY);
            // Nobody listens any more when the trees have been seen to hold everything.
            if let Err(mpsc::SendError(Err(error))) = sender.send(made.map(drop)) {
                tracing::warn!(error = %error.report(), "what was flushed did not get to the disk");
            }
            if let Err(error) = temp_dir.delete() {
                tracing::warn!(error = %error.report(), "a temporary snapshot stays until the home is opened next");
            }
        };
        let thread = thread::Builder::new().name("flush".to_owned()).spawn(work);
        let thread = thread.map_err(|error| Error::io("start thread", path, error))?;
        self.lock().entry(id.clone()).or_default().push(thread);
        Ok(Snapshot { dir, made })
    }

    /// Waits until what was flushed for the layer is on the disk, and nothing is left of the snapshots.
    pub(crate) fn finish(&self, id: &LayerId) {
        let threads = self.lock().remove(id).unwrap_or_default();
        for thread in threads {
            if thread.join().is_err() {
                tracing::warn!(layer = %id, "a temporary snapshot may stay until the home is opened next");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LayerId, Vec<JoinHandle<()>>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

/// Has the contents of the subvolume's files written, which a snapshot does before it asks for a transaction: of two that ask at different times, the later one may have to wait for a transaction of its own.
///
/// A snapshot begins with that even when its name is taken, from Linux 5.9 on; before, it fails at once, and what it failed to do costs time only.
fn write_contents(subvolume: &RootDir, temp_dir: &TempDir) {
    let Some(taken) = temp_dir.path().file_name() else { return };
    let above = openat(temp_dir, "..", OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
    let written = above.and_then(|above| ioctl::snapshot(above, taken, subvolume, SubvolumeFlags::READ_ONLY));
    tracing::trace!(?written, "files are written");
}

/// A snapshot on its way.
struct Snapshot {
    /// The directory that it is made in.
    dir: RootDir,
    /// How that ended; nothing after a panic.
    made: Receiver<Result<()>>,
}

impl Snapshot {
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
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::new(ErrorKind::Io, "flush").path(self.dir.path()));
                }
            }
        }
    }
}

/// A transaction takes a millisecond in memory and seconds on a busy disk.
fn between_looks(waited: Duration) -> Duration {
    (waited / 16).clamp(Duration::from_micros(200), Duration::from_millis(10))
}

/// Whether the file system's tree has any name in the directory. To ask in the usual way would be to wait for who is making it.
fn has_names(dir: BorrowedFd<'_>, buffer: &mut Buffer) -> nix::Result<bool> {
    let object = fstat(dir)?.st_ino;
    let [first, last] = [0, u64::MAX].map(|offset| Key { object, item_type: item::DIR_ITEM, offset });
    let range = Range { tree: TREE_OF_FILE, first, last, since: 0 };
    Ok(Search::new(dir, range, buffer).at_most(1).next_item()?.is_some())
}
