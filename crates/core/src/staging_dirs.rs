//! What killed processes of containers/storage leave of partial pulls.
//!
//! Below `<home>/staging` (0700) each directory of a random name has `dir`, the layer in the making, and `staging.lock`, which its owner keeps locked exclusively and
//! removes last but one. What this crate makes lies in [`TempDirs`](crate::TempDirs) instead.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use graphdriver_archive::{RootDir, remove_at};
use graphdriver_sys::ofd_lock::LockKind;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::error::{Error, Result};
use crate::lock_file::FileLock;

const LOCK: &str = "staging.lock";

/// How long nothing may have been made or removed in a directory that is deleted: its owner makes the directory first, then the lock's file, and then locks it; and lets the lock go
/// before it has moved the layer.
const GRACE: Duration = Duration::from_secs(60);

/// Deletes the staging directories of the home at `home` whose processes are gone for a minute; none being there is fine.
///
/// # Errors
/// The first of the failures to delete one; the others are deleted all the same.
pub fn remove_stale_staging_dirs(home: &Path) -> Result<()> {
    let mut first = Ok(());
    for stale in stale(home)? {
        let removed = stale.and_then(|stale| {
            tracing::info!(path = ?stale.path, "deleting what a killed process left of a partial pull");
            Ok(remove_at(stale.staging.as_fd(), &stale.name, &stale.path)?)
        });
        first = first.and(removed);
    }
    first
}

/// The directories that [`remove_stale_staging_dirs`] would delete.
///
/// # Errors
/// `Io`.
pub fn stale_staging_dirs(home: &Path) -> Result<Vec<PathBuf>> {
    stale(home)?.map(|stale| Ok(stale?.path)).collect()
}

/// A directory whose process is gone.
struct Stale {
    staging: RootDir,
    name: OsString,
    path: PathBuf,
    /// Keeps others from deleting it too.
    _lock: Option<FileLock>,
}

fn stale(home: &Path) -> Result<impl Iterator<Item = Result<Stale>>> {
    let path = home.join("staging");
    let failed = |path: &Path, error| Error::io("read directory", path, error);
    let entries = match fs::read_dir(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        entries => Some((entries.map_err(|error| failed(&path, error))?, RootDir::open(&path)?)),
    };
    let look = move |entry: io::Result<fs::DirEntry>, staging: &RootDir| {
        let entry = entry.map_err(|error| failed(staging.path(), error))?;
        let is_dir = entry.file_type().map_err(|error| failed(staging.path(), error))?.is_dir();
        if is_dir { if_stale(staging, entry.file_name()) } else { Ok(None) }
    };
    let found = entries.into_iter().flat_map(move |(entries, staging)| {
        entries.filter_map(move |entry| look(entry, &staging).transpose())
    });
    Ok(found)
}

fn if_stale(staging: &RootDir, name: OsString) -> Result<Option<Stale>> {
    let path = staging.path().join(&name);
    if !is_old(&path) {
        return Ok(None);
    }
    let Some(dir) = unless_gone(staging.subdir(Path::new(&name)))? else { return Ok(None) };
    let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let failed = |call, errno| Error::syscall(call, path.join(LOCK), errno);
    let lock = match openat(&dir, LOCK, flags, Mode::empty()) {
        Ok(file) => match FileLock::try_lock(file.into(), 0, 0, LockKind::Exclusive) {
            Ok(Some(lock)) => Some(lock),
            Ok(None) => return Ok(None),
            Err(errno) => return Err(failed("fcntl", errno)),
        },
        Err(Errno::ENOENT) => None,
        Err(errno) => return Err(failed("openat", errno)),
    };
    Ok(Some(Stale { staging: staging.clone(), name, path, _lock: lock }))
}

fn unless_gone<T>(result: graphdriver_archive::Result<T>) -> Result<Option<T>> {
    match result {
        Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(None),
        result => Ok(Some(result?)),
    }
}

/// Whether nothing has been made in the directory for a while. A clock that was set back makes it young.
fn is_old(path: &Path) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > GRACE))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::SystemTime;

    use graphdriver_sys::ofd_lock::try_lock;

    use super::*;

    /// A home with one staging directory, in which nothing was made for `age`; locked or not.
    fn staging(home: &Path, name: &str, age: Duration, with_lock: bool) -> Option<File> {
        let path = home.join("staging").join(name);
        fs::create_dir_all(path.join("dir/sub")).unwrap();
        fs::write(path.join("dir/sub/file"), "x").unwrap();
        let lock = with_lock.then(|| File::create_new(path.join(LOCK)).unwrap());
        File::open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
        lock
    }

    fn names(home: &Path) -> Vec<String> {
        let entries = fs::read_dir(home.join("staging")).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_nobody_has_locked_is_deleted() {
        let home = tempfile::tempdir().unwrap();
        remove_stale_staging_dirs(home.path()).unwrap();
        staging(home.path(), "123", 2 * GRACE, true);
        // As containers/storage does it: an exclusive lock on the whole file, of the open file description.
        let held = staging(home.path(), "456", 2 * GRACE, true).unwrap();
        assert!(try_lock(&held, 0, 0, LockKind::Exclusive).unwrap());
        fs::write(home.path().join("staging/file"), "x").unwrap();
        assert_eq!(stale_staging_dirs(home.path()).unwrap(), [home.path().join("staging/123")]);
        remove_stale_staging_dirs(home.path()).unwrap();
        assert!(stale_staging_dirs(home.path()).unwrap().is_empty());
        assert_eq!(names(home.path()), ["456", "file"]);
        assert!(home.path().join("staging/456/dir/sub/file").exists());
        drop(held);
        remove_stale_staging_dirs(home.path()).unwrap();
        assert_eq!(names(home.path()), ["file"]);
    }

    #[test]
    fn one_that_is_not_locked_yet_or_not_any_more_is_left_alone_for_a_while() {
        let home = tempfile::tempdir().unwrap();
        for (name, age) in [("new", Duration::ZERO), ("old", 2 * GRACE)] {
            staging(home.path(), name, age, false);
            staging(home.path(), &format!("{name}-with-lock"), age, true);
        }
        remove_stale_staging_dirs(home.path()).unwrap();
        assert_eq!(names(home.path()), ["new", "new-with-lock"]);
    }
}
