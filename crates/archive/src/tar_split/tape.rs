//! Hands what is read of an archive to a thread that digests and records it, so that the one that makes names does not.

use std::mem;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use super::record::{Mark, Recorder};
use super::{NotExact, Recorded};
use crate::apply::ArchiveDigest;
use crate::error::{Error, ErrorKind, Result};
use crate::tar::buffer::Slice;

/// Buffers that wait for the thread.
const QUEUE: usize = 4;

/// Most buffers that are held here; the reader's pool must have more.
pub(crate) const MAX_BUFFERS: usize = QUEUE + 2;

/// The buffer that is being read, and those before it that are not recorded yet.
#[derive(Debug)]
pub(crate) struct Tape {
    current: Option<Turn>,
    worker: Worker,
}

/// A buffer full of the stream, and the marks in it.
#[derive(Debug)]
struct Turn {
    bytes: Slice,
    marks: Vec<Mark>,
}

#[derive(Debug)]
enum Worker {
    /// No thread yet: an archive of one buffer is done faster without.
    Waiting(Box<Recorder>, Option<Turn>),
    /// No thread to be had.
    Here(Box<Recorder>),
    Thread(SyncSender<Turn>, JoinHandle<Result<Box<Recorder>>>),
    Gone,
}

impl Tape {
    pub(crate) fn new(recorder: Recorder) -> Self {
        Self { current: None, worker: Worker::Waiting(Box::new(recorder), None) }
    }

    /// `bytes` are the next of the stream.
    pub(crate) fn load(&mut self, bytes: Slice) {
        self.current = Some(Turn { bytes, marks: Vec::new() });
    }

    /// The reader came to a place in the bytes that were loaded last, or at their end.
    pub(crate) fn mark(&mut self, mark: Mark) {
        if let Some(turn) = &mut self.current {
            turn.marks.push(mark);
        }
    }

    /// All that was loaded is read.
    ///
    /// # Errors
    /// The kind of a failure to write the record.
    pub(crate) fn pass(&mut self) -> Result<()> {
        let Some(turn) = self.current.take() else { return Ok(()) };
        self.worker = match mem::replace(&mut self.worker, Worker::Gone) {
            Worker::Waiting(recorder, None) => Worker::Waiting(recorder, Some(turn)),
            Worker::Waiting(recorder, Some(first)) => start(recorder).pass(first)?.pass(turn)?,
            worker => worker.pass(turn)?,
        };
        Ok(())
    }

    /// Completes the record, unless `lost` says what of the archive the layer does not hold.
    ///
    /// # Errors
    /// The kind of a failure to write the record.
    pub(crate) fn finish(mut self, lost: Option<NotExact>) -> Result<(ArchiveDigest, Recorded)> {
        self.pass()?;
        let recorder = match mem::replace(&mut self.worker, Worker::Gone) {
            Worker::Waiting(recorder, None) | Worker::Here(recorder) => recorder,
            Worker::Waiting(mut recorder, Some(turn)) => {
                record(&mut recorder, turn)?;
                recorder
            }
            Worker::Thread(sender, thread) => {
                drop(sender);
                joined(thread)?
            }
            Worker::Gone => return Err(stopped()),
        };
        recorder.finish(lost).map_err(write_failed)
    }
}

impl Drop for Tape {
    /// Unpacking has failed: when the caller hears of it, nothing holds the record's file any more.
    fn drop(&mut self) {
        self.current = None;
        if let Worker::Thread(sender, thread) = mem::replace(&mut self.worker, Worker::Gone) {
            drop(sender);
            if let Err(error) = joined(thread) {
                tracing::debug!(%error, "a record was given up");
            }
        }
    }
}

impl Worker {
    fn pass(self, turn: Turn) -> Result<Self> {
        match self {
            Self::Thread(sender, thread) => match sender.send(turn) {
                Ok(()) => Ok(Self::Thread(sender, thread)),
                // It only ends by itself when it failed.
                Err(_) => Err(joined(thread).err().unwrap_or_else(stopped)),
            },
            Self::Here(mut recorder) => {
                record(&mut recorder, turn)?;
                Ok(Self::Here(recorder))
            }
            worker => Ok(worker),
        }
    }
}

fn start(recorder: Box<Recorder>) -> Worker {
    let (sender, turns) = sync_channel(QUEUE);
    let (give, take) = sync_channel(1);
    // The recorder goes through a channel, so that it is not lost when there is no thread.
    let work = move || match take.recv() {
        Ok(recorder) => run(recorder, &turns),
        Err(_) => Err(stopped()),
    };
    match Builder::new().name("layer-record".to_owned()).spawn(work) {
        Ok(thread) => {
            let _ = give.send(recorder);
            Worker::Thread(sender, thread)
        }
        Err(error) => {
            tracing::debug!(%error, "cannot start a thread that records an archive");
            Worker::Here(recorder)
        }
    }
}

fn run(mut recorder: Box<Recorder>, turns: &Receiver<Turn>) -> Result<Box<Recorder>> {
    while let Ok(turn) = turns.recv() {
        record(&mut recorder, turn)?;
    }
    Ok(recorder)
}

fn record(recorder: &mut Recorder, turn: Turn) -> Result<()> {
    recorder.push(&turn.bytes, turn.marks).map_err(write_failed)
}

fn joined(thread: JoinHandle<Result<Box<Recorder>>>) -> Result<Box<Recorder>> {
    thread.join().unwrap_or_else(|_| Err(stopped().detail("a thread panicked")))
}

fn write_failed(error: std::io::Error) -> Error {
    Error::io("write tar-split record", error)
}

fn stopped() -> Error {
    Error::new(ErrorKind::Io, "write tar-split record")
}
