//! Which file an attribute call is about, and the calls themselves.

use std::ffi::CStr;
use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::{NixPath, Result};

use super::SetFlags;
use crate::syscall;

/// The longest name of a directory entry.
const NAME_MAX: usize = 255;

/// `/proc/thread-self/fd/`, ten digits, a slash, a name, the NUL.
const PATH_BYTES: usize = 21 + 10 + 1 + NAME_MAX + 1;

/// A file whose attributes are read or changed.
pub(super) enum Target<'a> {
    /// The file behind a descriptor that is open for reading or writing.
    Open(BorrowedFd<'a>),
    /// The file at a path below `/proc/thread-self/fd`: a last component that is a symbolic link is not followed.
    Entry(ProcPath<'a>),
    /// The file behind a descriptor of any kind: the path is that of the magic link itself, which is followed, and leads
    /// to the file without resolving anything further.
    AnyFd(ProcPath<'a>),
}

impl<'a> Target<'a> {
    pub(super) fn opath(fd: BorrowedFd<'a>) -> Self {
        Self::AnyFd(ProcPath::new(fd))
    }

    /// # Errors
    ///
    /// `EINVAL` when `entry` is not one component, or is `.` or `..`; `ENAMETOOLONG`.
    pub(super) fn entry<E: ?Sized + NixPath>(dir: BorrowedFd<'a>, entry: &E) -> Result<Self> {
        let mut path = ProcPath::new(dir);
        entry.with_nix_path(|entry| path.push(entry.to_bytes()))??;
        Ok(Self::Entry(path))
    }

    /// The length of the value, which is in `buffer` unless that is empty.
    pub(super) fn get(&self, name: &CStr, buffer: &mut [u8]) -> Result<usize> {
        let (name, value, size) = (name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len());
        let returned = match self {
            // SAFETY: `name` ends in NUL; the kernel writes at most `size` bytes to `value`.
            Self::Open(fd) => unsafe { libc::fgetxattr(fd.as_raw_fd(), name, value, size) },
            // SAFETY: as above; the path ends in NUL.
            Self::Entry(path) => unsafe { libc::lgetxattr(path.as_ptr(), name, value, size) },
            // SAFETY: as above.
            Self::AnyFd(path) => unsafe { libc::getxattr(path.as_ptr(), name, value, size) },
        };
        syscall::count(returned)
    }

    /// The length of the list of names, which is in `buffer` unless that is empty.
    pub(super) fn list(&self, buffer: &mut [u8]) -> Result<usize> {
        let (list, size) = (buffer.as_mut_ptr().cast(), buffer.len());
        let returned = match self {
            // SAFETY: the kernel writes at most `size` bytes to `list`.
            Self::Open(fd) => unsafe { libc::flistxattr(fd.as_raw_fd(), list, size) },
            // SAFETY: as above; the path ends in NUL.
            Self::Entry(path) => unsafe { libc::llistxattr(path.as_ptr(), list, size) },
            // SAFETY: as above.
            Self::AnyFd(path) => unsafe { libc::listxattr(path.as_ptr(), list, size) },
        };
        syscall::count(returned)
    }

    pub(super) fn set(&self, name: &CStr, value: &[u8], flags: SetFlags) -> Result<()> {
        let (name, size, flags) = (name.as_ptr(), value.len(), flags.bits());
        let value = value.as_ptr().cast();
        let returned = match self {
            // SAFETY: `name` ends in NUL; the kernel reads `size` bytes of `value`.
            Self::Open(fd) => unsafe { libc::fsetxattr(fd.as_raw_fd(), name, value, size, flags) },
            // SAFETY: as above; the path ends in NUL.
            Self::Entry(path) => unsafe { libc::lsetxattr(path.as_ptr(), name, value, size, flags) },
            // SAFETY: as above.
            Self::AnyFd(path) => unsafe { libc::setxattr(path.as_ptr(), name, value, size, flags) },
        };
        Errno::result(returned).map(drop)
    }

    pub(super) fn remove(&self, name: &CStr) -> Result<()> {
        let name = name.as_ptr();
        let returned = match self {
            // SAFETY: `name` ends in NUL.
            Self::Open(fd) => unsafe { libc::fremovexattr(fd.as_raw_fd(), name) },
            // SAFETY: as above, and so does the path.
            Self::Entry(path) => unsafe { libc::lremovexattr(path.as_ptr(), name) },
            // SAFETY: as above.
            Self::AnyFd(path) => unsafe { libc::removexattr(path.as_ptr(), name) },
        };
        Errno::result(returned).map(drop)
    }
}

/// A path on the stack that reaches a file through a descriptor, which stays open as long as the path is used.
///
/// Invariant: `bytes[len..]` is all zero and not empty.
pub(super) struct ProcPath<'a> {
    bytes: [u8; PATH_BYTES],
    len: usize,
    _fd: BorrowedFd<'a>,
}

impl<'a> ProcPath<'a> {
    fn new(fd: BorrowedFd<'a>) -> Self {
        let mut bytes = [0; PATH_BYTES];
        let mut rest = &mut bytes[..];
        // A descriptor has at most ten digits, so this fits: writing to a slice has no other error.
        let _ = write!(rest, "/proc/thread-self/fd/{}", fd.as_raw_fd());
        let len = PATH_BYTES - rest.len();
        Self { bytes, len, _fd: fd }
    }

    fn push(&mut self, component: &[u8]) -> Result<()> {
        if matches!(component, b"" | b"." | b"..") || component.contains(&b'/') {
            return Err(Errno::EINVAL);
        }
        if component.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        self.bytes[self.len] = b'/';
        self.bytes[self.len + 1..][..component.len()].copy_from_slice(component);
        self.len += 1 + component.len();
        Ok(())
    }

    /// Ends in NUL, by the invariant.
    fn as_ptr(&self) -> *const libc::c_char {
        self.bytes.as_ptr().cast()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::RawFd;

    use super::*;

    #[test]
    fn the_longest_path_fits() {
        // SAFETY: only its digits are used; nothing is done with the descriptor.
        let mut path = ProcPath::new(unsafe { BorrowedFd::borrow_raw(RawFd::MAX) });
        path.push(&[b'x'; NAME_MAX]).unwrap();
        let text = CStr::from_bytes_until_nul(&path.bytes).unwrap();
        assert_eq!(text.count_bytes(), path.len);
        assert!(text.to_bytes().starts_with(b"/proc/thread-self/fd/2147483647/x"));
    }
}
