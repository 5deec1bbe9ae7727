//! The programs that others wrote.

pub(crate) mod containers_storage;
pub(crate) mod gnu_tar;
pub(crate) mod umoci;

use std::ffi::OsStr;
use std::process::{Command, Output};

/// A command whose messages are the same in every locale.
fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("LC_ALL", "C");
    command
}

/// Runs a command that has to succeed.
fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let words: Vec<&OsStr> = command.get_args().collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?} {words:?}: {}\n{errors}", command.get_program(), output.status);
    output
}
