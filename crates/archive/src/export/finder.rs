//! What there is to be written, found ahead by a thread.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};
use std::{mem, vec};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::libc::off_t;
use nix::sys::stat::FileStat;

use super::Source;
use crate::error::{Error, ErrorKind, Result};
use crate::found::{Found, Kind};

/// How many entries are handed over at a time at most.
const ENTRIES: usize = 256;

/// How many regular files may be among them, which are open.
const FILES: usize = 16;

/// How much of each of them is read ahead. Who reads more than that is seen by the kernel to read on.
const READ_AHEAD: off_t = 128 * 1024;

/// How many such batches may wait. One more is being made, and one is being written.
const WAITING: usize = 1;

/// An entry of the archive, with all that it takes to write it.
pub(super) enum Entry {
    /// A file that is to have this path.
    File(Vec<u8>, Found),
    /// What lies below at this path is gone.
    Whiteout(Vec<u8>),
    /// Nothing shows through the directory of this path.
    Opaque(Vec<u8>, FileStat),
}

/// Entries in their order.
#[derive(Default)]
pub(super) struct Batch {
    entries: Vec<Entry>,
    files: usize,
}

impl Batch {
    /// Adds the entry of a file.
    pub(super) fn file(&mut self, path: &[u8], mut found: Found) {
        match &mut found.kind {
            Kind::Regular(file) => {
                self.files += 1;
                let (bytes, advice) =
                    (found.stat.st_size.min(READ_AHEAD), PosixFadviseAdvice::POSIX_FADV_WILLNEED);
                if let Err(errno) = posix_fadvise(&*file, 0, bytes, advice) {
                    tracing::trace!(%errno, "is read when it is its turn");
                }
            }
            Kind::Directory(dir) => *dir = None,
            _ => {}
        }
        self.entries.push(Entry::File(path.to_vec(), found));
    }

    /// Adds a whiteout.
    pub(super) fn whiteout(&mut self, path: &[u8]) {
        self.entries.push(Entry::Whiteout(path.to_vec()));
    }

    /// Adds the opaque mark of a directory.
    pub(super) fn opaque(&mut self, path: &[u8], stat: FileStat) {
        self.entries.push(Entry::Opaque(path.to_vec(), stat));
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= ENTRIES || self.files >= FILES
    }
}

/// Entries of a source, found by a thread that is some batches ahead. To look at files is half of the work of an export, and their contents are on the way into memory when it is their turn.
pub(super) struct Finder {
    current: vec::IntoIter<Entry>,
    /// Ends with a failure, or with an empty batch.
    batches: Option<Receiver<Result<Vec<Entry>>>>,
    thread: Option<JoinHandle<()>>,
}

impl Finder {
    /// # Errors
    /// `Io` when there can be no thread.
    pub(super) fn start(source: Source) -> Result<Self> {
        let (sender, batches) = mpsc::sync_channel(WAITING);
        let thread =
            thread::Builder::new().name("export".to_owned()).spawn(move || find_all(source, &sender));
        let thread = thread.map_err(|error| Error::io("start thread", error))?;
        Ok(Self { current: Vec::new().into_iter(), batches: Some(batches), thread: Some(thread) })
    }

    /// The next entry; `None` at the end.
    ///
    /// # Errors
    /// Those of the source, when all that was found before was taken.
    pub(super) fn next(&mut self) -> Result<Option<Entry>> {
        if let Some(entry) = self.current.next() {
            return Ok(Some(entry));
        }
        let batch = self.batches.as_ref().and_then(|batches| batches.recv().ok());
        // After a panic there is neither an end nor a failure.
        self.current = batch.ok_or_else(|| Error::new(ErrorKind::Io, "export"))??.into_iter();
        Ok(self.current.next())
    }
}

impl Drop for Finder {
    /// Nothing of the tree is in use afterwards.
    fn drop(&mut self) {
        drop(self.batches.take());
        if let Some(thread) = self.thread.take() {
            // It has told of a panic by itself.
            let _ = thread.join();
        }
    }
}

/// Goes on until everything was found, something fails or nobody takes it any more.
fn find_all(mut source: Source, sender: &SyncSender<Result<Vec<Entry>>>) {
    let mut batch = Batch::default();
    loop {
        let more = source.step(&mut batch);
        let ended = !matches!(more, Ok(true));
        if (ended || batch.is_full()) && !batch.entries.is_empty() {
            let entries = mem::take(&mut batch).entries;
            if sender.send(Ok(entries)).is_err() {
                return;
            }
        }
        if ended {
            // Nobody misses it who is gone.
            let _ = sender.send(more.map(|_| Vec::new()));
            return;
        }
    }
}
