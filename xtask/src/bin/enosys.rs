//! `enosys CALL,CALL... PROGRAM ARGUMENT...`: starts a program for which these system calls are missing, as they are on a kernel that is older than they are.
//!
//! A seccomp filter answers `ENOSYS` for them, to the program and to all that it starts.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use syscalls::Sysno;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let [calls, program, arguments @ ..] = words.as_slice() else {
        eprintln!("usage: enosys CALL,CALL... PROGRAM ARGUMENT...");
        return ExitCode::from(2);
    };
    if let Err(message) = take_away(&calls.to_string_lossy()) {
        eprintln!("enosys: {message}");
        return ExitCode::from(2);
    }
    let error = Command::new(program).args(arguments).exec();
    eprintln!("enosys: {}: {error}", program.display());
    ExitCode::from(127)
}

fn take_away(calls: &str) -> Result<(), String> {
    let mut rules = BTreeMap::new();
    for name in calls.split(',') {
        let call: Sysno = name.parse().map_err(|()| format!("there is no system call {name}"))?;
        rules.insert(i64::from(call.id()), Vec::new());
    }
    let missing = SeccompAction::Errno(u32::try_from(nix::errno::Errno::ENOSYS as i32).map_err(text)?);
    let architecture = std::env::consts::ARCH.try_into().map_err(text)?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, missing, architecture).map_err(text)?;
    let program = BpfProgram::try_from(filter).map_err(text)?;
    apply_filter(&program).map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
