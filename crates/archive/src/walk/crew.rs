//! Threads that share the subtrees of one walk.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// More threads than this only wait for each other in the kernel's directory locks.
const MAX_THREADS: usize = 4;

/// Where threads that walk parts of one tree give work to those that have none.
///
/// A thread gives away a subtree only when another waits, so what is queued, and the descriptors it holds, stays below the number of threads.
pub(crate) struct Crew<T> {
    threads: usize,
    state: Mutex<State<T>>,
    changed: Condvar,
    /// Threads waiting, less tasks queued: read without the lock before giving.
    wanted: AtomicUsize,
}

struct State<T> {
    queue: Vec<T>,
    waiting: usize,
    stopped: bool,
}

impl<T> Crew<T> {
    /// Whether a thread waits for work; then [`give`](Self::give) it some.
    pub(crate) fn wants_work(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) > 0
    }

    /// Lets another thread do `task`.
    pub(crate) fn give(&self, task: T) {
        let mut state = self.lock();
        state.queue.push(task);
        self.update(&state);
        self.changed.notify_one();
    }

    /// Whether another thread failed, so that going on is useless.
    pub(crate) fn stopped(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) == usize::MAX
    }

    /// The next task; `None` when all is done or a thread failed.
    fn take(&self) -> Option<T> {
        let mut state = self.lock();
        state.waiting += 1;
        loop {
            if state.stopped {
                return None;
            }
            if let Some(task) = state.queue.pop() {
                state.waiting -= 1;
                self.update(&state);
                return Some(task);
            }
            if state.waiting == self.threads {
                self.stop(&mut state);
                return None;
            }
            self.update(&state);
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn stop(&self, state: &mut State<T>) {
        state.stopped = true;
        self.update(state);
        self.changed.notify_all();
    }

    fn update(&self, state: &State<T>) {
        let wanted = if state.stopped { usize::MAX } else { state.waiting.saturating_sub(state.queue.len()) };
        self.wanted.store(wanted, Ordering::Relaxed);
    }

    /// What the lock protects is whole at every moment, so that a panic elsewhere does not matter here.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stops the others when a thread ends early, by an error or a panic.
struct StopOnDrop<'a, T>(&'a Crew<T>);

impl<T> Drop for StopOnDrop<'_, T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        self.0.stop(&mut state);
    }
}

/// Does `first` and all that is given while doing it, with as many threads as there are cores (at most four); returns what each thread
/// collected, or the first failure.
///
/// `work` is called once per thread with the tasks it is to do.
pub(crate) fn run_crew<T: Send, R: Send, E: Send>(
    first: T,
    work: impl Fn(&Crew<T>, &mut dyn Iterator<Item = T>) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    run_with(threads, first, work)
}

fn run_with<T: Send, R: Send, E: Send>(
    threads: usize,
    first: T,
    work: impl Fn(&Crew<T>, &mut dyn Iterator<Item = T>) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let state = State { queue: vec![first], waiting: 0, stopped: false };
    let crew =
        Crew { threads, state: Mutex::new(state), changed: Condvar::new(), wanted: AtomicUsize::new(0) };
    let one = || {
        let _stop = StopOnDrop(&crew);
        work(&crew, &mut std::iter::from_fn(|| crew.take()))
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(one)).collect();
        let mut results = vec![one()];
        for other in others {
            results.push(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        results.into_iter().collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts the nodes of a binary tree of which each thread gives away what is wanted.
    #[test]
    fn all_given_work_is_done_once() {
        for threads in 1..=4 {
            let counts = run_with(threads, 14_u32, |crew, tasks| {
                let mut nodes = 0_u64;
                for depth in tasks {
                    let mut stack = vec![depth];
                    while let Some(depth) = stack.pop() {
                        nodes += 1;
                        if depth == 0 {
                            continue;
                        }
                        stack.push(depth - 1);
                        if crew.wants_work() { crew.give(depth - 1) } else { stack.push(depth - 1) }
                    }
                }
                Ok::<_, ()>(nodes)
            });
            assert_eq!(counts.unwrap().iter().sum::<u64>(), (1 << 15) - 1);
        }
    }

    #[test]
    fn a_failure_stops_all_and_is_returned() {
        let result = run_with(4, 0_u32, |crew, tasks| {
            for task in tasks {
                if task == 100 {
                    return Err("failed");
                }
                crew.give(task + 1);
            }
            Ok(())
        });
        assert_eq!(result.unwrap_err(), "failed");
    }
}
