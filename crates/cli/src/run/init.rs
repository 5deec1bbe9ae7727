//! The first process of a container.
//!
//! The kernel gives it every orphan of the pid namespace to wait for, ignores signals for it that it does not handle, and ends the namespace with it.

use graphdriver::Error;
use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::{COMMAND, next, signals};
use crate::args::Container;
use crate::failure::status_of_signal;
use crate::signals::Signals;

/// Starts the command, passes signals on to it, takes in orphans, and returns the command's exit status.
///
/// # Errors
/// `Io` when the command's process cannot be made.
pub(crate) fn init(container: &Container) -> Result<u8, Error> {
    let signals = Signals::block(signals())?;
    // Nobody would unmount and remove the layer, or read our status, without the one that started us.
    set_pdeathsig(Signal::SIGKILL).map_err(|errno| Error::syscall("prctl", "PR_SET_PDEATHSIG", errno))?;
    let child =
        next(COMMAND, container).spawn().map_err(|error| Error::io("start", "/proc/self/exe", error))?;
    let command = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    loop {
        signals.wait(None)?;
        while let Some(received) = signals.next() {
            if received.signal != Signal::SIGCHLD && !received.from_kernel {
                let _ = kill(command, received.signal);
            }
        }
        if let Some(status) = reap(command, container.foreground)? {
            return Ok(status);
        }
    }
}

/// Waits for all that has ended; the status of `command` when it is among them.
fn reap(command: Pid, foreground: bool) -> Result<Option<u8>, Error> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) {
            Ok(WaitStatus::Exited(process, status)) if process == command => {
                return Ok(Some(u8::try_from(status).unwrap_or(u8::MAX)));
            }
            Ok(WaitStatus::Signaled(process, signal, _)) if process == command => {
                return Ok(Some(status_of_signal(signal as i32)));
            }
            // Nobody in here could continue it: the shell that understands Ctrl-Z is outside.
            Ok(WaitStatus::Stopped(process, _)) if process == command && foreground => {
                let _ = killpg(command, Signal::SIGCONT);
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(None),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::syscall("waitpid", "container", errno)),
        }
    }
}
