//! Stopping an import half-way without leaving half of it.

use std::io::{self, Read};
use std::sync::{Arc, OnceLock};

use graphdriver::archive::{Error, ErrorKind};
use nix::sys::signal::Signal;

use crate::signals::Signals;

/// Watches for signals that ask to stop, for the time of an import.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<State>);

#[derive(Debug)]
struct State {
    signals: Signals,
    received: OnceLock<Signal>,
}

impl Interrupt {
    pub(crate) fn new(signals: Signals) -> Self {
        Self(Arc::new(State { signals, received: OnceLock::new() }))
    }

    /// The first signal that came.
    pub(crate) fn received(&self) -> Option<Signal> {
        let state = &*self.0;
        if state.received.get().is_none()
            && let Some(received) = state.signals.next()
        {
            // Another thread may have been faster, with a signal of its own.
            let _ = state.received.set(received.signal);
        }
        state.received.get().copied()
    }

    /// Ends reading of `source` when a signal comes.
    pub(crate) fn watching<R: Read>(&self, source: R) -> Watching<R> {
        Watching { source, interrupt: self.clone() }
    }
}

/// A reader that fails once a signal has come.
pub(crate) struct Watching<R> {
    source: R,
    interrupt: Interrupt,
}

impl<R: Read> Read for Watching<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.interrupt.received() {
            // Not `io::ErrorKind::Interrupted`: that would be tried again.
            Some(signal) => {
                Err(Error::new(ErrorKind::Io, "read archive").detail(format!("stopped by {signal}")).into())
            }
            None => self.source.read(buffer),
        }
    }
}
