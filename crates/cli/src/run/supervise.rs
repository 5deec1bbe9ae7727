//! The host's side of a container: its namespaces, its terminal, its signals, its status.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use graphdriver::{Error, ErrorKind};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};

use super::{INIT, next};
use crate::args::Container;
use crate::failure::status_of_signal;
use crate::signals::{STOP, Signals};

/// How long a command may go on after a signal that asked it to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Runs `command` with `root` as its root directory, passes `signals` on to it, and returns its exit status: 128 and the signal's number if a signal ended it.
///
/// A command that does not end within ten seconds after `SIGINT`, `SIGTERM` or `SIGHUP` came is killed with all it started.
///
/// # Errors
/// `PermissionDenied` where namespaces cannot be made; `Io`.
pub(crate) fn supervise(root: &Path, command: &[OsString], signals: &Signals) -> Result<u8, Error> {
    let foreground = has_terminal();
    let container = Container { root: root.to_owned(), foreground, command: command.to_vec() };
    // Namespaces are a thread's own: the layer is unmounted in the one we are in, by the threads that stay there. The kernel kills the container when
    // the thread that started it ends, so this one waits for it.
    let status = thread::scope(|scope| {
        let work = || in_namespaces(&container, signals);
        let thread = thread::Builder::new().name("container".into()).spawn_scoped(scope, work);
        let thread = thread.map_err(|error| Error::new(ErrorKind::Io, "start thread").source(error))?;
        let panicked = || Error::new(ErrorKind::Io, "run").detail("the supervising thread panicked");
        thread.join().unwrap_or_else(|_| Err(panicked()))
    });
    if foreground {
        take_terminal_back();
    }
    status.map(status_of)
}

fn in_namespaces(container: &Container, signals: &Signals) -> Result<ExitStatus, Error> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWUTS).map_err(
        |errno| Error::new(kind_of(errno), "unshare").detail("mount, pid and uts namespaces").source(errno),
    )?;
    let mut child =
        next(INIT, container).spawn().map_err(|error| Error::io("start", "/proc/self/exe", error))?;
    let mut deadline: Option<Instant> = None;
    loop {
        let status = child.try_wait();
        let status = status.map_err(|error| Error::new(ErrorKind::Io, "wait for container").source(error))?;
        if let Some(status) = status {
            return Ok(status);
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            // The end of its first process is the end of the whole pid namespace.
            let _ = child.kill();
            deadline = None;
            continue;
        }
        signals.wait(left)?;
        while let Some(received) = signals.next() {
            // What a key on the terminal makes, the command gets from the kernel as we do.
            if received.signal == Signal::SIGCHLD || received.from_kernel {
                continue;
            }
            forward(&child, received.signal);
            if STOP.contains(&received.signal) {
                deadline.get_or_insert_with(|| Instant::now() + GRACE);
            }
        }
    }
}

fn forward(child: &Child, signal: Signal) {
    let Ok(process) = i32::try_from(child.id()) else { return };
    // It has not been waited for, so the number is still its own; it may have ended.
    let _ = kill(Pid::from_raw(process), signal);
}

/// Whether standard input is a terminal, and ours to give to the command.
fn has_terminal() -> bool {
    let stdin = io::stdin();
    stdin.is_terminal() && tcgetpgrp(&stdin) == Ok(getpgrp())
}

/// Makes our process group the terminal's foreground group again; the command's is gone.
fn take_terminal_back() {
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTTOU);
    // Without this the kernel would stop us: we are in the background.
    if stop.thread_block().is_ok() {
        let _ = tcsetpgrp(io::stdin(), getpgrp());
        let _ = stop.thread_unblock();
    }
}

fn status_of(status: ExitStatus) -> u8 {
    let of_signal = || status.signal().map_or(1, status_of_signal);
    status.code().map_or_else(of_signal, |code| u8::try_from(code).unwrap_or(u8::MAX))
}

fn kind_of(errno: Errno) -> ErrorKind {
    match errno {
        Errno::EPERM => ErrorKind::PermissionDenied,
        // The kernel lacks a kind of namespace.
        Errno::EINVAL => ErrorKind::NotSupported,
        _ => ErrorKind::Io,
    }
}
