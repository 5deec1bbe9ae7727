//! One short lock for the names in a home.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use graphdriver_sys::ofd_lock::LockKind;
use nix::libc;

use crate::error::{Error, Result};
use crate::lock_file::FileLock;

/// Ignored by the Go drivers, which look at directories only.
const NAME: &str = ".graphdriver.lock";

/// The right to change, or to rely on, which layers a home has.
///
/// Creating, committing and removing a layer take it exclusively for the moment in which names change; looking at several names that must fit together takes it shared. It holds against other threads and
/// other processes, is never held while a layer is filled or deleted, and ends with the process whatever happens. The Go drivers do not know it.
#[derive(Debug)]
#[must_use = "dropping the guard unlocks the home"]
pub struct HomeLock {
    _lock: FileLock,
}

impl HomeLock {
    /// Waits until nobody else holds the lock of the directory `home`.
    ///
    /// # Errors
    /// `Io` when `home` is missing; `PermissionDenied`, also on a read-only file system; `NoSpace`.
    pub fn exclusive(home: &Path) -> Result<Self> {
        Self::lock(home, LockKind::Exclusive)
    }

    /// Waits until nobody holds the lock of the directory `home` exclusively.
    ///
    /// # Errors
    /// As [`exclusive`](Self::exclusive).
    pub fn shared(home: &Path) -> Result<Self> {
        Self::lock(home, LockKind::Shared)
    }

    fn lock(home: &Path, kind: LockKind) -> Result<Self> {
        let path = home.join(NAME);
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(|error| Error::io("open", &path, error))?;
        let lock = FileLock::lock(file, 0, 0, kind).map_err(|errno| Error::syscall("fcntl", &path, errno))?;
        Ok(Self { _lock: lock })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::thread;
    use std::time::Duration;

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(20);

    /// Takes the lock in another thread; whether it comes while `held` is held, and that it comes afterwards.
    fn comes_while(held: HomeLock, home: &Path, take: fn(&Path) -> Result<HomeLock>) -> bool {
        let (taken, waiting) = channel();
        thread::scope(|scope| {
            scope.spawn(move || taken.send(take(home).map(drop)).unwrap());
            let early = waiting.recv_timeout(SHORT);
            drop(held);
            match early {
                Ok(result) => result.map(|()| true).unwrap(),
                Err(RecvTimeoutError::Timeout) => {
                    waiting.recv_timeout(LONG).unwrap().unwrap();
                    false
                }
                Err(RecvTimeoutError::Disconnected) => panic!("the thread ended"),
            }
        })
    }

    #[test]
    fn excludes_other_threads() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path();
        assert!(!comes_while(HomeLock::exclusive(home).unwrap(), home, HomeLock::exclusive));
        assert!(!comes_while(HomeLock::exclusive(home).unwrap(), home, HomeLock::shared));
        assert!(!comes_while(HomeLock::shared(home).unwrap(), home, HomeLock::exclusive));
        assert!(comes_while(HomeLock::shared(home).unwrap(), home, HomeLock::shared));
    }

    #[test]
    fn a_missing_home_is_an_error() {
        let error = HomeLock::shared(Path::new("/nonexistent")).unwrap_err();
        assert_eq!(error.failed_path(), Some(Path::new("/nonexistent/.graphdriver.lock")));
    }
}
