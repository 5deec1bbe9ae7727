//! Making two files share the blocks of a range that is equal in both.

use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};

use nix::Result;
use nix::errno::Errno;

use crate::syscall;

/// The most that one call compares, in bytes: what every kernel and file system takes in one piece.
pub const MAX_DEDUPE_BYTES: u64 = 16 << 20;

/// What became of a range that was to be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dedupe {
    /// So many bytes from the start of the range are shared now, which may be fewer than were asked for.
    Shared(u64),
    /// The contents differ; nothing has changed.
    Differs,
}

/// Compares `length` bytes from `offset` of both files (at most [`MAX_DEDUPE_BYTES`]) and, where they are equal, makes `destination` share the
/// blocks of `source`. Nobody who reads or writes either file notices: the kernel compares and shares with both files locked.
///
/// Both are regular files on one file system. `source` is open for reading. `destination` may be, too, for its owner, for who may write to it, and for
/// `CAP_SYS_ADMIN` (before Linux 4.20 for the latter only). Offset and length are multiples of the file system's blocks, but the range may end
/// where both files do.
///
/// # Errors
///
/// - `EOPNOTSUPP` or `ENOTTY`: the file system cannot share blocks (ext4, tmpfs).
/// - `EXDEV`: the files are not on one file system.
/// - `EINVAL`: the file system does not share this pair or range: swap files, files that differ in copy-on-write, a range that is not
///   aligned or reaches beyond an end.
/// - `EPERM` (destination), `EBADF` (open mode), `EISDIR`, `ETXTBSY`, `EROFS`, as
///   [ioctl_fideduperange(2)](https://man7.org/linux/man-pages/man2/ioctl_fideduperange.2.html) says.
#[doc(alias = "FIDEDUPERANGE")]
pub fn dedupe_range(source: impl AsFd, destination: impl AsFd, offset: u64, length: u64) -> Result<Dedupe> {
    let (source, destination) = (source.as_fd(), destination.as_fd());
    let mut request = Request {
        range: Range {
            src_offset: offset,
            src_length: length.min(MAX_DEDUPE_BYTES),
            dest_count: 1,
            ..Range::default()
        },
        info: Info { dest_fd: destination.as_raw_fd().into(), dest_offset: offset, ..Info::default() },
    };
    syscall::retry_on_interrupt(|| {
        // SAFETY: the kernel reads and writes a header and, as `dest_count` says, one record after it, which is what a `Request` is.
        let returned = unsafe { libc::ioctl(source.as_raw_fd(), FIDEDUPERANGE, &raw mut request) };
        Errno::result(returned).map(drop)
    })?;
    match request.info.status {
        FILE_DEDUPE_RANGE_SAME => Ok(Dedupe::Shared(request.info.bytes_deduped)),
        FILE_DEDUPE_RANGE_DIFFERS => Ok(Dedupe::Differs),
        status => Err(Errno::from_raw(status.saturating_neg())),
    }
}

/// `struct file_dedupe_range` of `linux/fs.h` up to its records.
#[derive(Default)]
#[repr(C)]
struct Range {
    src_offset: u64,
    src_length: u64,
    dest_count: u16,
    reserved1: u16,
    reserved2: u32,
}

/// `struct file_dedupe_range_info`.
#[derive(Default)]
#[repr(C)]
struct Info {
    dest_fd: i64,
    dest_offset: u64,
    bytes_deduped: u64,
    status: i32,
    reserved: u32,
}

#[repr(C)]
struct Request {
    range: Range,
    info: Info,
}

const _: () = assert!(size_of::<Range>() == 24 && size_of::<Request>() == 24 + 32);

const FIDEDUPERANGE: libc::Ioctl = libc::_IOWR::<Range>(0x94, 54);
const FILE_DEDUPE_RANGE_SAME: i32 = 0;
const FILE_DEDUPE_RANGE_DIFFERS: i32 = 1;

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;
    use crate::test_dir;

    /// Which answer a file system gives depends on it; `crates/archive/tests/dedup.rs` has the file systems that share.
    #[test]
    fn contents_stay_whatever_the_answer() {
        let dir = test_dir::on_disk();
        let contents = vec![b'x'; 8192];
        for name in ["one", "two"] {
            fs::write(dir.path().join(name), &contents).unwrap();
        }
        let [one, two] = ["one", "two"].map(|name| File::open(dir.path().join(name)).unwrap());
        match dedupe_range(&one, &two, 0, 8192) {
            Ok(answer) => assert_eq!(answer, Dedupe::Shared(8192)),
            Err(errno) => {
                assert!(matches!(errno, Errno::EOPNOTSUPP | Errno::ENOTTY | Errno::EPERM), "{errno}");
            }
        }
        assert_eq!(fs::read(dir.path().join("two")).unwrap(), contents);
    }

    #[test]
    fn tmpfs_cannot() {
        let dir = test_dir::on_tmpfs();
        fs::write(dir.path().join("file"), b"x").unwrap();
        let file = File::open(dir.path().join("file")).unwrap();
        let errno = dedupe_range(&file, &file, 0, 1).unwrap_err();
        assert!(matches!(errno, Errno::EOPNOTSUPP | Errno::ENOTTY), "{errno}");
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let dir = test_dir::on_disk();
        let file = File::create(dir.path().join("file")).unwrap();
        assert!(dedupe_range(test_dir::open(dir.path()), &file, 0, 1).is_err());
    }
}
