//! Running a command on a mounted layer, in mount, pid and uts namespaces of its own.
//!
//! Three processes, all this program until the last one becomes the command:
//! 1. the one that was started by the user: mounts, waits, unmounts, removes ([`mod@supervise`]);
//! 2. the first process of the pid namespace, which passes signals on and takes in orphans ([`mod@init`]);
//! 3. its child, which sets up the file system, moves into it by `pivot_root(2)` and executes the command ([`become_command`]).
//!
//! This separates file systems and processes, for looking into layers and for build steps. It is no wall against hostile programs: root keeps all its
//! capabilities, and the network is the host's.

mod command;
mod devices;
mod init;
mod root;
mod supervise;

use std::process::Command;

use nix::sys::signal::Signal;

pub(crate) use command::become_command;
pub(crate) use init::init;
pub(crate) use supervise::supervise;

use crate::args::Container;

/// Name of the hidden command for the first process of a container.
pub(crate) const INIT: &str = "container-init";
/// Name of the hidden command for the process that becomes the container's command.
pub(crate) const COMMAND: &str = "container-command";

/// Signals that are passed on to the command.
const FORWARDED: [Signal; 9] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGCONT,
    Signal::SIGWINCH,
];

/// Signals that the processes of a container read rather than suffer.
pub(crate) fn signals() -> impl Iterator<Item = Signal> {
    FORWARDED.into_iter().chain([Signal::SIGCHLD])
}

/// This program again, with what `container` says, for the next of the three processes.
fn next(subcommand: &str, container: &Container) -> Command {
    // By what is running, not by its name: the file may have been replaced, or be out of sight in the new namespaces.
    let mut command = Command::new("/proc/self/exe");
    command.arg(subcommand).arg(&container.root);
    if container.foreground {
        command.arg("--foreground");
    }
    command.arg("--").args(&container.command);
    command
}
