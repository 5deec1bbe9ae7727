//! The process that becomes the container's command.

use std::convert::Infallible;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use graphdriver::Error;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, getpid, sethostname, setpgid, tcsetpgrp};

use super::root;
use crate::args::Container;

/// Exit status of shells for a command that cannot be executed.
const CANNOT_EXECUTE: u8 = 126;
/// Exit status of shells for a command that does not exist.
const NOT_FOUND: u8 = 127;

const HOSTNAME: &str = "graphdriver";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Sets up the container's file system, moves into it, and executes the command. Returns only what went wrong, and the
/// exit status for it if it was the last step.
pub(crate) fn become_command(container: &Container) -> (Error, Option<u8>) {
    if let Err(error) = prepare(container) {
        return (error, None);
    }
    let Err((error, status)) = execute(container);
    (error, Some(status))
}

fn prepare(container: &Container) -> Result<(), Error> {
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    root::enter(&container.root)?;
    sethostname(HOSTNAME).map_err(|errno| Error::syscall("sethostname", HOSTNAME, errno))?;
    if container.foreground {
        take_terminal().map_err(|errno| Error::syscall("tcsetpgrp", "standard input", errno))?;
    }
    // All signals were blocked by the processes before this one, to be read.
    SigSet::empty().thread_set_mask().map_err(|errno| Error::syscall("sigprocmask", "signals", errno))
}

/// Makes this process the leader of a process group of its own, the one that keys on the terminal send signals to.
///
/// Its old group has no number in the new pid namespace, and shells try to go back to that when they end.
fn take_terminal() -> nix::Result<()> {
    setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTTOU);
    stop.thread_block()?;
    tcsetpgrp(io::stdin(), getpid())
}

fn execute(container: &Container) -> Result<Infallible, (Error, u8)> {
    let (program, arguments) = container.command.split_first().unzip();
    let program = program.cloned().unwrap_or_else(|| "/bin/sh".into());
    let mut command = Command::new(&program);
    command.args(arguments.unwrap_or_default()).env_clear().env("PATH", PATH).env("HOME", "/root");
    if let Some(terminal) = std::env::var_os("TERM") {
        command.env("TERM", terminal);
    }
    let error = command.exec();
    let status = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_EXECUTE };
    Err((Error::io("execute", program, error), status))
}
