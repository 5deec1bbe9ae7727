//! Locks on files, as guards.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use graphdriver_sys::ofd_lock::{self, LockKind};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{fstat, fstatat};

/// A lock on bytes of an open file, given up when dropped.
///
/// It belongs to the open file description, which a child made by `fork` shares: there the guard does nothing.
#[derive(Debug)]
pub(crate) struct FileLock {
    file: File,
    start: u64,
    len: u64,
    owner: u32,
}

impl FileLock {
    /// Waits for `len` bytes from `start`; all of them when `len` is zero.
    pub(crate) fn lock(file: File, start: u64, len: u64, kind: LockKind) -> nix::Result<Self> {
        ofd_lock::lock(&file, start, len, kind)?;
        Ok(Self { file, start, len, owner: std::process::id() })
    }

    /// Like [`lock`](Self::lock), but `None` instead of waiting.
    pub(crate) fn try_lock(file: File, start: u64, len: u64, kind: LockKind) -> nix::Result<Option<Self>> {
        let locked = ofd_lock::try_lock(&file, start, len, kind)?;
        Ok(locked.then(|| Self { file, start, len, owner: std::process::id() }))
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Whether both locks are on one file, opened once or twice.
    pub(crate) fn is_on_same_file(&self, other: &Self) -> nix::Result<bool> {
        let (one, two) = (fstat(&self.file)?, fstat(&other.file)?);
        Ok((one.st_dev, one.st_ino) == (two.st_dev, two.st_ino))
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        if self.owner != std::process::id() {
            return;
        }
        // Closing is not enough where another thread has just forked: the child has the descriptor until it executes its program.
        if let Err(errno) = ofd_lock::unlock(&self.file, self.start, self.len) {
            tracing::debug!(%errno, "unlock file");
        }
    }
}

/// Whether the open `file` still is what `name` in `dir` names.
///
/// To be asked after a lock was taken: while one waited for it, the holder before may have unlinked the file, and the lock that one has then
/// is of a file that nobody else will ever find.
pub(crate) fn is_current(dir: BorrowedFd<'_>, name: &OsStr, file: impl AsFd) -> nix::Result<bool> {
    let open = fstat(file)?;
    match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(named) => Ok((named.st_dev, named.st_ino) == (open.st_dev, open.st_ino)),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn dropping_unlocks_even_while_a_duplicate_is_open() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("lock");
        File::create_new(&path).unwrap();
        let try_lock = || {
            let file = File::options().read(true).write(true).open(&path).unwrap();
            FileLock::try_lock(file, 1, 1, LockKind::Exclusive).unwrap()
        };
        let lock = try_lock().unwrap();
        let _duplicate = lock.file().try_clone().unwrap();
        assert!(try_lock().is_none());
        drop(lock);
        assert!(try_lock().is_some());
    }

    #[test]
    fn notices_unlinked_and_replaced_files() {
        let temp = tempfile::tempdir().unwrap();
        let dir = File::open(temp.path()).unwrap();
        let path = temp.path().join("lock");
        let asked = |file| is_current(dir.as_fd(), "lock".as_ref(), file).unwrap();
        let first = File::create_new(&path).unwrap();
        assert!(asked(&first));
        fs::remove_file(&path).unwrap();
        assert!(!asked(&first));
        let second = File::create_new(&path).unwrap();
        assert!(!asked(&first) && asked(&second));
    }
}
