//! A suite on this machine, for which system calls are missing.

use std::path::PathBuf;
use std::process::Command;

use syscalls::Sysno;

use super::suite::{CONFORMANCE, Suite, Wanted};
use crate::Result;
use crate::command::{cargo, check, target_dir};

/// Calls that `docs/kernel-features.md` has something in the place of, whichever the driver.
///
/// Not among them: `open_tree`, without which overlay has no other owners for a layer, and what is not a call of its own, such as `FICLONE`, which tmpfs refuses anyway.
const REPLACEABLE: [&str; 14] = [
    "copy_file_range",
    "fsconfig",
    "fsmount",
    "fsopen",
    "getxattrat",
    "listxattrat",
    "mount_setattr",
    "move_mount",
    "openat2",
    "quotactl_fd",
    "removexattrat",
    "renameat2",
    "setxattrat",
    "statx",
];

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

/// Runs a suite here without `calls`.
pub(super) fn run(wanted: &Wanted, calls: &str) -> Result<()> {
    let mut failed = Vec::new();
    each_program(wanted, calls, |command| {
        failed.extend(check(command).err().map(|error| error.to_string()));
        Ok(())
    })?;
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n").into()) }
}

/// Runs the suites of the drivers here by `run`, without what came with Linux 5.2 and later and can be done without.
pub(crate) fn as_if_older(mut run: impl FnMut(&mut Command) -> Result<()>) -> Result<()> {
    let replaceable = REPLACEABLE.join(",");
    for (driver, fs, missing) in [
        ("overlay-native,vfs-auto", "tmpfs", replaceable.clone()),
        ("btrfs-native", "btrfs", format!("{replaceable},open_tree")),
    ] {
        let arguments = vec![format!("--driver={driver}"), format!("--fs={fs}")];
        let wanted = Wanted { packages: vec![CONFORMANCE.to_owned()], arguments, without: Vec::new() };
        each_program(&wanted, &missing, &mut run)?;
    }
    Ok(())
}

fn each_program(wanted: &Wanted, calls: &str, mut run: impl FnMut(&mut Command) -> Result<()>) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let suite = Suite::build(&wanted.packages, directory.path())?;
    let (enosys, arguments) = (enosys()?, wanted.command_line());
    suite
        .programs()
        .iter()
        .try_for_each(|program| run(Command::new(&enosys).arg(calls).arg(program).args(&arguments)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_replaced_exists() {
        assert_eq!(system_calls(&REPLACEABLE.join(",")), Ok(REPLACEABLE.join(",")));
    }

    #[test]
    fn system_calls_have_their_names() {
        assert!(system_calls("openat2,mount_setattr,setxattrat,quotactl_fd").is_ok());
        for wrong in ["", "openat2,", "openat3", "openat2 statx"] {
            assert!(system_calls(wrong).is_err(), "{wrong:?}");
        }
    }
}
