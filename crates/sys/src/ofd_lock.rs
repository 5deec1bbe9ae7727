//! Locks on byte ranges that belong to an open file description.
//!
//! Unlike the older `fcntl` locks of a process, they hold between threads that opened the file separately, are not lost
//! when some other descriptor of the file is closed, and end when the last duplicate of the descriptor is closed. They
//! conflict with those older locks, which is how containers/storage and others see them, but not with `flock`.
//!
//! See the section of that name in [fcntl_locking(2)](https://man7.org/linux/man-pages/man2/fcntl_locking.2.html).

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use nix::Result;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use crate::syscall;

/// Who else may hold a lock on the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockKind {
    /// Others that are shared too. The descriptor must be open for reading.
    Shared,
    /// Nobody. The descriptor must be open for writing.
    Exclusive,
}

/// Waits until `len` bytes from `start` are locked; `len` zero means to the end of the file however long it grows.
///
/// A lock that the same description has on these bytes already is changed, not added to: going from shared to exclusive
/// is not atomic. There is no detection of deadlocks.
///
/// # Errors
///
/// `EBADF` (open mode), `EINVAL` (range beyond what a file can have), `ENOLCK`.
#[doc(alias = "F_OFD_SETLKW")]
pub fn lock(fd: impl AsFd, start: u64, len: u64, kind: LockKind) -> Result<()> {
    let range = range(kind.l_type(), start, len)?;
    apply(fd.as_fd(), &range, true)
}

/// Like [`lock`], but returns false at once when another description holds a lock that conflicts.
///
/// # Errors
///
/// As for [`lock`].
#[doc(alias = "F_OFD_SETLK")]
pub fn try_lock(fd: impl AsFd, start: u64, len: u64, kind: LockKind) -> Result<bool> {
    let range = range(kind.l_type(), start, len)?;
    match apply(fd.as_fd(), &range, false) {
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        result => result.map(|()| true),
    }
}

/// Gives up what this description has locked of the range; bytes it has not locked are passed over.
///
/// # Errors
///
/// `EINVAL`; `ENOLCK` when a lock would have to be split and no memory is left.
#[doc(alias = "F_UNLCK")]
pub fn unlock(fd: impl AsFd, start: u64, len: u64) -> Result<()> {
    let range = range(libc::F_UNLCK, start, len)?;
    apply(fd.as_fd(), &range, false)
}

impl LockKind {
    fn l_type(self) -> libc::c_int {
        match self {
            Self::Shared => libc::F_RDLCK,
            Self::Exclusive => libc::F_WRLCK,
        }
    }
}

fn apply(fd: BorrowedFd<'_>, range: &libc::flock, wait: bool) -> Result<()> {
    syscall::retry_on_interrupt(|| {
        let argument = if wait { FcntlArg::F_OFD_SETLKW(range) } else { FcntlArg::F_OFD_SETLK(range) };
        fcntl(fd, argument).map(drop)
    })
}

fn range(l_type: libc::c_int, start: u64, len: u64) -> Result<libc::flock> {
    // Zeroed because some architectures have padding fields, and `l_pid` must be zero for these locks.
    // SAFETY: a struct of integers, for which all zeroes is a value.
    let mut range: libc::flock = unsafe { MaybeUninit::zeroed().assume_init() };
    range.l_type = libc::c_short::try_from(l_type).map_err(|_| Errno::EINVAL)?;
    range.l_whence = libc::c_short::try_from(libc::SEEK_SET).map_err(|_| Errno::EINVAL)?;
    range.l_start = libc::off_t::try_from(start).map_err(|_| Errno::EINVAL)?;
    range.l_len = libc::off_t::try_from(len).map_err(|_| Errno::EINVAL)?;
    Ok(range)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::test_dir;

    fn open(path: &Path) -> File {
        File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap()
    }

    #[test]
    fn two_descriptions_exclude_each_other() {
        for dir in [test_dir::on_disk(), test_dir::on_tmpfs()] {
            let path = dir.path().join("lock");
            let (one, two) = (open(&path), open(&path));
            assert_eq!(try_lock(&one, 0, 1, LockKind::Exclusive), Ok(true));
            assert_eq!(try_lock(&two, 0, 1, LockKind::Exclusive), Ok(false));
            assert_eq!(try_lock(&two, 0, 1, LockKind::Shared), Ok(false));
            assert_eq!(try_lock(&two, 1, 0, LockKind::Exclusive), Ok(true), "other bytes are free");
            unlock(&one, 0, 1).unwrap();
            assert_eq!(try_lock(&two, 0, 1, LockKind::Shared), Ok(true));
            assert_eq!(try_lock(&one, 0, 1, LockKind::Shared), Ok(true));
            assert_eq!(try_lock(&one, 0, 1, LockKind::Exclusive), Ok(false));
        }
    }

    #[test]
    fn closing_another_descriptor_keeps_the_lock() {
        let dir = test_dir::on_disk();
        let path = dir.path().join("lock");
        let holder = open(&path);
        lock(&holder, 0, 0, LockKind::Exclusive).unwrap();
        drop(open(&path));
        let other = open(&path);
        assert_eq!(try_lock(&other, 0, 0, LockKind::Exclusive), Ok(false));
        drop(holder);
        assert_eq!(try_lock(&other, 0, 0, LockKind::Exclusive), Ok(true));
    }

    #[test]
    fn waiting_ends_when_the_lock_does() {
        let dir = test_dir::on_disk();
        let path = dir.path().join("lock");
        let holder = open(&path);
        lock(&holder, 0, 0, LockKind::Exclusive).unwrap();
        let (done, waiting) = mpsc::channel();
        let waiter = open(&path);
        let thread = thread::spawn(move || {
            lock(&waiter, 0, 0, LockKind::Exclusive).unwrap();
            done.send(()).unwrap();
        });
        let early = waiting.recv_timeout(Duration::from_millis(50));
        assert_eq!(early, Err(mpsc::RecvTimeoutError::Timeout));
        unlock(&holder, 0, 0).unwrap();
        waiting.recv_timeout(Duration::from_secs(10)).unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn what_cannot_be_locked_is_refused() {
        let dir = test_dir::on_disk();
        let path = dir.path().join("lock");
        let file = open(&path);
        assert_eq!(lock(&file, u64::MAX, 0, LockKind::Shared), Err(Errno::EINVAL));
        assert_eq!(lock(&file, 0, u64::MAX, LockKind::Shared), Err(Errno::EINVAL));
        let reader = File::open(&path).unwrap();
        assert_eq!(try_lock(&reader, 0, 0, LockKind::Exclusive), Err(Errno::EBADF));
    }
}
