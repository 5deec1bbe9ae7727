//! Threads that write file contents while the calling thread reads the archive.
//!
//! The calling thread makes every name, in the order of the archive, and hands over open files with the buffers that belong in them.
//! Workers write and set metadata through the descriptor, so that nothing they do depends on names or on order. When buffers or
//! descriptors run out, the calling thread works too instead of waiting.
//!
//! The first failure of any thread empties the queue, and the calling thread returns it at its next step.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::{io, mem};

use super::file::OpenFile;
use crate::error::{Error, ErrorKind, Result};
use crate::tar::buffer::Slice;

/// Jobs are handed over in batches, so that waking a thread costs little per file.
const BATCH_JOBS: usize = 16;
const BATCH_BYTES: usize = 256 << 10;
/// Files with more extended attributes than this do not wait, so that those of all waiting files take little memory.
const MAX_WAITING_METADATA_BYTES: usize = 64 << 10;

/// Contents for a file. The last job of a file to end also gives the file its metadata and closes it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) file: Arc<OpenFile>,
    pub(super) parts: Vec<Part>,
}

/// Bytes and where in the file they go.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) offset: u64,
    pub(super) data: Slice,
}

/// The calling thread's side.
pub(super) struct Writers {
    shared: Arc<Shared>,
    threads: RefCell<Vec<JoinHandle<()>>>,
    max_threads: Cell<usize>,
    max_open_files: usize,
    /// Jobs not handed over yet, and the bytes in them.
    batch: RefCell<Vec<Job>>,
    batch_bytes: Cell<usize>,
    /// Batches that had ended when the calling thread last found nothing to do.
    seen_ended: Cell<u64>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Workers wait here for batches.
    work: Condvar,
    /// The calling thread waits here for a batch to end.
    progress: Condvar,
    failed: AtomicBool,
    open_files: Arc<AtomicUsize>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Vec<Job>>,
    idle_workers: usize,
    running: usize,
    ended: u64,
    caller_waits: bool,
    closed: bool,
    error: Option<Error>,
}

impl Writers {
    /// Up to `threads` threads, the calling one among them, and `max_open_files` files at a time. Threads start when there is work for them.
    pub(super) fn new(threads: usize, max_open_files: usize) -> Self {
        Self {
            shared: Arc::default(),
            threads: RefCell::default(),
            max_threads: Cell::new(threads.saturating_sub(1)),
            max_open_files,
            batch: RefCell::default(),
            batch_bytes: Cell::new(0),
            seen_ended: Cell::new(0),
        }
    }

    /// The count of open files, which an [`OpenFile`] holds a share of.
    pub(super) fn open_files(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.shared.open_files)
    }

    /// Returns when another file may be opened.
    ///
    /// # Errors
    /// The first failure of any thread.
    pub(super) fn admit(&self) -> Result<()> {
        while self.shared.open_files.load(Ordering::Relaxed) >= self.max_open_files {
            self.make_progress()?;
        }
        self.check()
    }

    /// Hands a job over.
    ///
    /// # Errors
    /// The first failure of any thread.
    pub(super) fn submit(&self, job: Job) -> Result<()> {
        if self.max_threads.get() == 0 || job.file.metadata_bytes() > MAX_WAITING_METADATA_BYTES {
            return job.run();
        }
        let bytes = self.batch_bytes.get() + job.parts.iter().map(|part| part.data.len()).sum::<usize>();
        self.batch_bytes.set(bytes);
        self.batch.borrow_mut().push(job);
        if self.batch.borrow().len() >= BATCH_JOBS || bytes >= BATCH_BYTES {
            self.publish();
        }
        self.check()
    }

    /// Does some of the work, or waits until some is done, so that buffers and descriptors come back.
    ///
    /// # Errors
    /// The first failure of any thread.
    pub(super) fn make_progress(&self) -> Result<()> {
        self.publish();
        // Unlocked again before the check, which locks.
        let stuck = {
            let mut state = self.shared.lock();
            if let Some(batch) = state.start_batch() {
                drop(state);
                self.shared.run(batch);
                false
            } else if state.running > 0 {
                state.caller_waits = true;
                state = wait(&self.shared.progress, state);
                state.caller_waits = false;
                false
            } else {
                state.error.is_none() && self.seen_ended.replace(state.ended) == state.ended
            }
        };
        self.check()?;
        if stuck {
            // Nothing is under way that could give anything back.
            return Err(Error::new(ErrorKind::Io, "write files").detail("out of buffers or descriptors"));
        }
        Ok(())
    }

    /// Returns when all jobs are done.
    ///
    /// # Errors
    /// The first failure of any thread.
    pub(super) fn finish(&self) -> Result<()> {
        self.publish_to_self();
        loop {
            self.check()?;
            let mut state = self.shared.lock();
            if let Some(batch) = state.start_batch() {
                drop(state);
                self.shared.run(batch);
            } else if state.running > 0 {
                state.caller_waits = true;
                state = wait(&self.shared.progress, state);
                state.caller_waits = false;
            } else {
                drop(state);
                return self.check();
            }
        }
    }

    fn check(&self) -> Result<()> {
        if !self.shared.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        let stopped = || Error::new(ErrorKind::Io, "write files").detail("stopped by an earlier failure");
        Err(self.shared.lock().error.take().unwrap_or_else(stopped))
    }

    /// Hands the collected jobs to the workers.
    fn publish(&self) {
        let Some(idle) = self.publish_to_self() else { return };
        if idle {
            self.shared.work.notify_one();
        } else if self.threads.borrow().len() < self.max_threads.get() {
            self.start_thread();
        }
    }

    /// Queues the collected jobs without waking anyone; whether a worker is idle, or `None` when there was nothing to queue.
    fn publish_to_self(&self) -> Option<bool> {
        let batch = mem::take(&mut *self.batch.borrow_mut());
        self.batch_bytes.set(0);
        if batch.is_empty() {
            return None;
        }
        let mut state = self.shared.lock();
        state.queue.push_back(batch);
        Some(state.idle_workers > 0)
    }

    fn start_thread(&self) {
        let shared = Arc::clone(&self.shared);
        match Builder::new().name("layer-writer".to_owned()).spawn(move || shared.work()) {
            Ok(thread) => self.threads.borrow_mut().push(thread),
            Err(error) => {
                // A limit on processes: the threads that there are, at least the calling one, do all the work.
                tracing::debug!(%error, "cannot start a thread that writes files");
                self.max_threads.set(self.threads.borrow().len());
            }
        }
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        let queue = {
            let mut state = self.shared.lock();
            state.closed = true;
            mem::take(&mut state.queue)
        };
        self.shared.work.notify_all();
        drop(queue);
        for thread in self.threads.get_mut().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread that writes files panicked");
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker's life.
    fn work(&self) {
        loop {
            let mut state = self.lock();
            let batch = loop {
                if state.closed {
                    return;
                }
                if let Some(batch) = state.start_batch() {
                    break batch;
                }
                state.idle_workers += 1;
                state = wait(&self.work, state);
                state.idle_workers -= 1;
            };
            drop(state);
            self.run(batch);
        }
    }

    /// Runs a batch that [`State::start_batch`] gave.
    fn run(&self, batch: Vec<Job>) {
        let mut end = BatchEnd { shared: self, result: None };
        end.result = Some(batch.into_iter().try_for_each(Job::run));
    }
}

/// Books the end of a batch, also when a job panics.
struct BatchEnd<'a> {
    shared: &'a Shared,
    /// `None` until the batch ended, and so when it panicked.
    result: Option<Result<()>>,
}

impl Drop for BatchEnd<'_> {
    fn drop(&mut self) {
        let mut dropped = VecDeque::new();
        let mut state = self.shared.lock();
        state.running -= 1;
        state.ended += 1;
        let panicked = || Error::new(ErrorKind::Io, "write files").detail("a thread panicked");
        if let Err(error) = self.result.take().unwrap_or_else(|| Err(panicked())) {
            state.error.get_or_insert(error);
            dropped = mem::take(&mut state.queue);
            self.shared.failed.store(true, Ordering::Release);
        }
        let caller_waits = state.caller_waits;
        drop(state);
        drop(dropped);
        if caller_waits {
            self.shared.progress.notify_one();
        }
    }
}

impl State {
    fn start_batch(&mut self) -> Option<Vec<Job>> {
        let batch = self.queue.pop_front()?;
        self.running += 1;
        Some(batch)
    }
}

impl Job {
    fn run(self) -> Result<()> {
        for part in &self.parts {
            let written = self.file.file().write_all_at(&part.data, part.offset);
            written.map_err(|error| write_failed(&self.file, error))?;
        }
        // Buffers go back before the calls that only concern metadata.
        drop(self.parts);
        match Arc::into_inner(self.file) {
            Some(file) => file.finish(),
            None => Ok(()),
        }
    }
}

fn write_failed(file: &OpenFile, error: io::Error) -> Error {
    Error::io("pwrite64", error).path(file.path())
}

fn wait<'a>(condition: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    condition.wait(state).unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::PathBuf;
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::apply::ApplyOptions;
    use crate::apply::metadata::{Metadata, Rules};
    use crate::tar::buffer::{BUFFER_BYTES, Pool};

    /// Writes a few megabytes, or fails where the file is open for reading only.
    fn job(writers: &Writers, file: File, data: &Slice) -> Job {
        let metadata =
            Metadata { owner: None, mode: None, xattrs: Vec::new(), times: None, inherited_acl: false };
        let rules = Arc::new(Rules::new(&ApplyOptions::default()));
        let file = OpenFile::new(file, PathBuf::from("file"), metadata, rules, writers.open_files());
        let parts = (0..10).map(|_| Part { offset: 0, data: data.clone() }).collect();
        Job { file: Arc::new(file), parts }
    }

    /// The caller waits for a worker, and what it waits for is the failure.
    #[test]
    fn a_failure_reaches_the_caller_that_waits_for_it() {
        let (done, waiting) = channel();
        thread::spawn(move || {
            let dir = tempfile::tempdir().unwrap();
            let (good, bad) = (dir.path().join("good"), dir.path().join("bad"));
            std::fs::write(&bad, "").unwrap();
            let data = Slice::new(Arc::new(Pool::new(1).take().unwrap()), 0..BUFFER_BYTES);
            for _ in 0..20 {
                let writers = Writers::new(2, 100);
                let mut failed = false;
                for _ in 1..BATCH_JOBS {
                    failed |= writers.submit(job(&writers, File::create(&good).unwrap(), &data)).is_err();
                }
                failed |= writers.submit(job(&writers, File::open(&bad).unwrap(), &data)).is_err();
                thread::sleep(Duration::from_micros(200));
                assert!(failed || (0..100).any(|_| writers.make_progress().is_err()));
            }
            done.send(()).unwrap();
        });
        waiting.recv_timeout(Duration::from_secs(60)).expect("the caller got the failure and did not hang");
    }
}
