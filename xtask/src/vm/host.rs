//! A suite on this machine, for which system calls are missing.

use std::path::PathBuf;
use std::process::Command;

use syscalls::Sysno;

use super::suite::{Suite, Wanted};
use crate::Result;
use crate::command::{cargo, check, target_dir};

/// Checks names of system calls, separated by commas.
pub(super) fn system_calls(names: &str) -> Result<String, String> {
    match names.split(',').find(|name| name.parse::<Sysno>().is_err()) {
        Some(unknown) => Err(format!("there is no system call {unknown:?}")),
        None => Ok(names.to_owned()),
    }
}

/// Builds the program that takes system calls away from others.
pub(super) fn enosys() -> Result<PathBuf> {
    check(cargo().args(["build", "--quiet", "--package", "xtask", "--bin", "enosys"]))?;
    Ok(target_dir().join("debug/enosys"))
}

pub(super) fn run(wanted: &Wanted, calls: &str) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let suite = Suite::build(wanted, directory.path())?;
    let enosys = enosys()?;
    let failed = suite.programs().iter().filter_map(|program| {
        check(Command::new(&enosys).arg(calls).arg(program).args(suite.arguments())).err()
    });
    let failed: Vec<String> = failed.map(|error| error.to_string()).collect();
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n").into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_calls_have_their_names() {
        assert!(system_calls("openat2,mount_setattr,setxattrat,quotactl_fd").is_ok());
        for wrong in ["", "openat2,", "openat3", "openat2 statx"] {
            assert!(system_calls(wrong).is_err(), "{wrong:?}");
        }
    }
}
