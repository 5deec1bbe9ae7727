//! How the kernel wants to be spoken to.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;

use graphdriver_archive::whiteout::OverlayXattrs;
use graphdriver_core::{Error, ErrorKind, FsMagic, Result};

use super::incompatible;
use super::trial::Trial;
use crate::mount::{Dialect, MountApi, Wishes};
use crate::options::OverlayTuning;

/// The newest dialect that the kernel takes.
pub(super) fn find(
    trial: &Trial,
    backing: FsMagic,
    xattrs: OverlayXattrs,
    tuning: OverlayTuning,
) -> Result<Dialect> {
    let mut failures = Vec::new();
    for dialect in candidates(xattrs, tuning) {
        match mount_and_delete(trial, dialect) {
            Ok(()) => {
                check_whiteouts(trial, backing)?;
                return Ok(dialect);
            }
            Err(error) => {
                tracing::debug!(?dialect, error = %error.report(), "this way of mounting overlay does not work here");
                failures.push(error);
            }
        }
    }
    Err(explain(trial, backing, failures))
}

/// What to try, newest first.
fn candidates(xattrs: OverlayXattrs, tuning: OverlayTuning) -> Vec<Dialect> {
    let all = [
        Dialect { api: MountApi::FsContext, switches: true, volatile: true, xattrs },
        Dialect { api: MountApi::Mount, switches: true, volatile: true, xattrs },
        Dialect { api: MountApi::Mount, switches: true, volatile: false, xattrs },
        Dialect { api: MountApi::Mount, switches: false, volatile: false, xattrs },
    ];
    let wanted = |dialect: &Dialect| tuning.mount_api.is_none_or(|api| api == dialect.api);
    all.into_iter().filter(wanted).collect()
}

/// Mounts, removes what the lower directory has, and unmounts.
pub(super) fn mount_and_delete(trial: &Trial, dialect: Dialect) -> Result<()> {
    let wishes = Wishes { volatile: true, ..Wishes::default() };
    trial.mounted(dialect, wishes, |merged| {
        let gone = merged.join("gone");
        match fs::remove_dir(&gone) {
            // A dialect tried before may have got this far.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("remove directory in overlay", gone, error))
            }
            _ => Ok(()),
        }
    })
}

fn check_whiteouts(trial: &Trial, backing: FsMagic) -> Result<()> {
    let whiteout = trial.upper.join("gone");
    match fs::symlink_metadata(&whiteout) {
        Ok(found) if found.file_type().is_char_device() => Ok(()),
        Ok(_) => Err(incompatible(&whiteout, backing, "overlay makes no whiteouts there")),
        Err(error) => Err(Error::io("stat", whiteout, error)),
    }
}

/// The oldest dialect's failure says what is amiss, unless the file system is; then the newest's has the better text.
fn explain(trial: &Trial, backing: FsMagic, mut failures: Vec<Error>) -> Error {
    match failures.last().map(Error::kind) {
        Some(ErrorKind::NotSupported | ErrorKind::NoSpace) | None => {
            failures.pop().unwrap_or_else(|| Error::new(ErrorKind::NotSupported, "mount overlay"))
        }
        Some(ErrorKind::PermissionDenied) => {
            let cause = failures.swap_remove(failures.len() - 1);
            Error::new(ErrorKind::Prerequisites, "probe overlay").path(&trial.merged).source(cause)
        }
        Some(_) => {
            let of_overlay = |error: &Error| {
                !matches!(error.kind(), ErrorKind::NotSupported | ErrorKind::PermissionDenied)
            };
            let first = failures.iter().position(of_overlay).unwrap_or_default();
            let error = incompatible(&trial.upper, backing, "mounting overlay on it does not work");
            error.source(failures.swap_remove(first))
        }
    }
}
