//! The programs that others wrote.

mod cgroup;
pub(crate) mod containers_storage;
pub(crate) mod dockerd;
pub(crate) mod gnu_tar;
pub(crate) mod plugin;
pub(crate) mod podman;
pub(crate) mod room;
pub(crate) mod umoci;

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

/// A command whose messages are the same in every locale.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("LC_ALL", "C");
    command
}

/// A program in a mount namespace of its own, in which what it writes outside of its directories (keys, sockets, directories for plugins and networks) goes nowhere: into file
/// systems in memory and into the directory `dir`, which has to be on one that overlay can write to. `more` are options of unshare(1), for more namespaces.
fn aside(name: &str, dir: &Path, more: &[&str]) -> Command {
    let script = r#"
    mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /opt && mkdir -p "$0/etc" "$0/etc-work" &&
    mount -t overlay -o "lowerdir=/etc,upperdir=$0/etc,workdir=$0/etc-work" overlay /etc && exec "$@""#;
    let mut command = program("setpriv");
    // However this process ends, what it started does not outlive it.
    command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation=private"]);
    command.args(more).args(["--", "sh", "-c", script]).arg(dir).arg(name);
    command
}

/// Runs a command that has to succeed.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let words: Vec<&OsStr> = command.get_args().collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?} {words:?}: {}\n{errors}", command.get_program(), output.status);
    output
}
