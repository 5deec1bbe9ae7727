//! Copying a whole file by sharing its blocks.

use std::os::fd::{AsFd, AsRawFd};

use nix::Result;
use nix::errno::Errno;

use crate::syscall;

/// Makes `destination` share all blocks of `source` until either is written to: a copy that costs no data.
///
/// Both are regular files on one file system (one mount is not required since Linux 5.18); `destination` is open for
/// writing and its former contents are gone afterwards. Only contents are shared: mode, owner, times and extended
/// attributes stay as they are.
///
/// # Errors
///
/// - `EOPNOTSUPP` or `ENOTTY`: the file system cannot share blocks (ext4, tmpfs).
/// - `EXDEV`: the files are not on one file system. `EINVAL`: they may not share (swap file, not both
///   copy-on-write, not regular files).
/// - `ENOSPC`, `EDQUOT`, `EPERM` (immutable), `ETXTBSY`, `EBADF` (open mode), as
///   [ioctl_ficlone(2)](https://man7.org/linux/man-pages/man2/ioctl_ficlone.2.html) says.
#[doc(alias = "FICLONE")]
#[doc(alias = "reflink")]
pub fn clone_file(destination: impl AsFd, source: impl AsFd) -> Result<()> {
    let (destination, source) = (destination.as_fd(), source.as_fd());
    syscall::retry_on_interrupt(|| {
        // SAFETY: FICLONE takes a descriptor by value and touches no memory of ours.
        let returned = unsafe { libc::ioctl(destination.as_raw_fd(), libc::FICLONE, source.as_raw_fd()) };
        Errno::result(returned).map(drop)
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;
    use crate::test_dir;

    /// Which answer a file system gives depends on it, but the contents tell whether the answer is true.
    #[test]
    fn contents_are_shared_or_the_reason_is_given() {
        let dir = test_dir::on_disk();
        fs::write(dir.path().join("from"), b"shared blocks").unwrap();
        fs::write(dir.path().join("to"), b"").unwrap();
        let source = File::open(dir.path().join("from")).unwrap();
        let destination = File::options().write(true).open(dir.path().join("to")).unwrap();
        let copied = fs::read(dir.path().join("to"));
        assert_eq!(copied.unwrap(), b"");
        match clone_file(&destination, &source) {
            Ok(()) => assert_eq!(fs::read(dir.path().join("to")).unwrap(), b"shared blocks"),
            Err(errno) => {
                assert!(matches!(errno, Errno::EOPNOTSUPP | Errno::ENOTTY), "{errno}");
                assert_eq!(fs::read(dir.path().join("to")).unwrap(), b"");
            }
        }
    }

    #[test]
    fn another_file_system_is_refused() {
        let (disk, tmpfs) = (test_dir::on_disk(), test_dir::on_tmpfs());
        let destination = File::create(disk.path().join("to")).unwrap();
        fs::write(tmpfs.path().join("from"), b"x").unwrap();
        let source = File::open(tmpfs.path().join("from")).unwrap();
        let errno = clone_file(&destination, &source).unwrap_err();
        assert!(matches!(errno, Errno::EXDEV | Errno::EOPNOTSUPP), "{errno}");
    }

    #[test]
    fn a_destination_open_for_reading_only_is_refused() {
        let dir = test_dir::on_disk();
        fs::write(dir.path().join("file"), b"x").unwrap();
        let file = File::open(dir.path().join("file")).unwrap();
        assert!(clone_file(&file, &file).is_err());
    }
}
