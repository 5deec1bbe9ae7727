//! A place in which several programs see the same mounts, processes and sockets, and nobody else does.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{aside, program};

/// How long it may take until the room is there, or a program has ended.
const PATIENCE: Duration = Duration::from_secs(60);

/// Mount and process namespaces, held by a process that does nothing. Dropped, everything in them ends.
pub(crate) struct Room {
    holder: Child,
    pid: Pid,
}

impl Room {
    /// A room in which what is written outside of `dir` goes nowhere, as [`aside`] has it.
    pub(crate) fn new(dir: &Path) -> Self {
        let mut command = aside("sleep", dir, &["--pid", "--fork", "--kill-child", "--mount-proc"]);
        let mut holder = command.arg("infinity").stdin(Stdio::null()).spawn().unwrap();
        let begin = Instant::now();
        let pid = loop {
            // The shell that makes the mounts becomes the holder.
            let is_ready = |pid: &Pid| comm(*pid).is_some_and(|name| name.trim() == "sleep");
            if let Some(pid) = children(&holder).into_iter().find(is_ready) {
                break pid;
            }
            let ended = holder.try_wait().unwrap();
            assert!(ended.is_none() && begin.elapsed() < PATIENCE, "no room: {ended:?}");
            std::thread::sleep(Duration::from_millis(10));
        };
        Self { holder, pid }
    }

    /// A program in the room, as the only child of the command.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = program("setpriv");
        command.args(["--pdeathsig", "KILL", "nsenter", "--mount", "--pid", "--target"]);
        command.arg(self.pid.to_string()).arg("--").arg(name);
        command
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // Gone already, if the machine has killed it.
        let _ = kill(self.pid, Signal::SIGKILL);
        let _ = self.holder.wait();
    }
}

/// Sends `signal` to what `process` has started, and waits until both have ended.
pub(crate) fn end(mut process: Child, signal: Signal) {
    for child in children(&process) {
        // It may have ended by itself.
        let _ = kill(child, signal);
    }
    let begin = Instant::now();
    while process.try_wait().unwrap().is_none() {
        if begin.elapsed() > PATIENCE {
            process.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn children(process: &Child) -> Vec<Pid> {
    let pid = process.id();
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().map(|child| Pid::from_raw(child.parse().unwrap())).collect()
}

fn comm(pid: Pid) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok()
}
