//! Signals as something to read, so that nothing happens in the middle of other work.

use std::iter;
use std::os::fd::AsFd;
use std::time::Duration;

use graphdriver::Error;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Signals by which people and supervisors ask a program to stop.
pub(crate) const STOP: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// Signals that this process, and the threads that it makes from now on, take by reading only.
#[derive(Debug)]
pub(crate) struct Signals {
    fd: SignalFd,
}

/// A signal and who sent it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    pub(crate) signal: Signal,
    /// The kernel made it, not a process: for keys on the terminal, which sends it to the whole foreground process group.
    pub(crate) from_kernel: bool,
}

impl Signals {
    /// Blocks `signals`. To be called before any thread is made.
    ///
    /// # Errors
    /// When the kernel has no descriptor left.
    pub(crate) fn block(signals: impl IntoIterator<Item = Signal>) -> Result<Self, Error> {
        let set: SigSet = signals.into_iter().collect();
        set.thread_block().map_err(|errno| Error::syscall("sigprocmask", "signals", errno))?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
        Ok(Self { fd: fd.map_err(|errno| Error::syscall("signalfd", "signals", errno))? })
    }

    /// The next signal, if one is there.
    pub(crate) fn next(&self) -> Option<Received> {
        let info = self.fd.read_signal().ok().flatten()?;
        let number = i32::try_from(info.ssi_signo).ok()?;
        Some(Received {
            signal: Signal::try_from(number).ok()?,
            from_kernel: info.ssi_code > 0 || info.ssi_code == libc::SI_KERNEL,
        })
    }

    /// The first of the signals there that asks to stop; all others are forgotten.
    pub(crate) fn stop_request(&self) -> Option<Signal> {
        iter::from_fn(|| self.next()).map(|received| received.signal).find(|signal| STOP.contains(signal))
    }

    /// Waits until a signal is there, or `timeout` has passed. May return for nothing.
    ///
    /// # Errors
    /// Whatever poll(2) fails with.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Result<(), Error> {
        let timeout =
            timeout.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        match poll(&mut [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(Error::syscall("poll", "signals", errno)),
        }
    }
}
