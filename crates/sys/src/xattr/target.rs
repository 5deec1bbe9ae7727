//! Which file an attribute call is about, and the calls for each way to say it.

use std::ffi::CStr;
use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::{NixPath, Result};

use super::SetFlags;
use super::entry::{Entry, NAME_MAX, may_be_unknown};
use crate::syscall::count;

/// `/proc/thread-self/fd/`, ten digits, a slash, a name, the NUL.
const PATH_BYTES: usize = 21 + 10 + 1 + NAME_MAX + 1;

/// A file whose attributes are read or changed.
pub(super) enum Target<'a> {
    /// The file behind a descriptor that is open for reading or writing.
    Open(BorrowedFd<'a>),
    /// An entry of a directory; a symbolic link is not followed.
    Entry(Entry<'a>),
    /// The same by its path below `/proc/thread-self/fd`.
    EntryPath(ProcPath<'a>),
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
        Entry::new(dir, entry).map(Self::Entry)
    }

    /// The length of the value, which is in `buffer` unless that is empty.
    pub(super) fn get(&self, name: &CStr, buffer: &mut [u8]) -> Result<usize> {
        let (name_ptr, value, size) = (name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len());
        match self {
            // SAFETY: `name` ends in NUL; the kernel writes at most `size` bytes to `value`.
            Self::Open(fd) => count(unsafe { libc::fgetxattr(fd.as_raw_fd(), name_ptr, value, size) }),
            Self::Entry(entry) => match entry.get(name, buffer) {
                Err(errno) if may_be_unknown(errno) => Self::by_path(entry).get(name, buffer),
                result => result,
            },
            // SAFETY: as above; the path ends in NUL.
            Self::EntryPath(path) => count(unsafe { libc::lgetxattr(path.as_ptr(), name_ptr, value, size) }),
            // SAFETY: as above.
            Self::AnyFd(path) => count(unsafe { libc::getxattr(path.as_ptr(), name_ptr, value, size) }),
        }
    }

    /// The length of the list of names, which is in `buffer` unless that is empty.
    pub(super) fn list(&self, buffer: &mut [u8]) -> Result<usize> {
        let (list, size) = (buffer.as_mut_ptr().cast(), buffer.len());
        match self {
            // SAFETY: the kernel writes at most `size` bytes to `list`.
            Self::Open(fd) => count(unsafe { libc::flistxattr(fd.as_raw_fd(), list, size) }),
            Self::Entry(entry) => match entry.list(buffer) {
                Err(errno) if may_be_unknown(errno) => Self::by_path(entry).list(buffer),
                result => result,
            },
            // SAFETY: as above; the path ends in NUL.
            Self::EntryPath(path) => count(unsafe { libc::llistxattr(path.as_ptr(), list, size) }),
            // SAFETY: as above.
            Self::AnyFd(path) => count(unsafe { libc::listxattr(path.as_ptr(), list, size) }),
        }
    }

    pub(super) fn set(&self, name: &CStr, value: &[u8], flags: SetFlags) -> Result<()> {
        let (name_ptr, bytes, size) = (name.as_ptr(), value.as_ptr().cast(), value.len());
        let returned = match self {
            Self::Open(fd) => {
                // SAFETY: `name` ends in NUL; the kernel reads `size` bytes of `value`.
                unsafe { libc::fsetxattr(fd.as_raw_fd(), name_ptr, bytes, size, flags.bits()) }
            }
            Self::Entry(entry) => {
                return match entry.set(name, value, flags) {
                    Err(errno) if may_be_unknown(errno) => Self::by_path(entry).set(name, value, flags),
                    result => result,
                };
            }
            Self::EntryPath(path) => {
                // SAFETY: as above; the path ends in NUL.
                unsafe { libc::lsetxattr(path.as_ptr(), name_ptr, bytes, size, flags.bits()) }
            }
            Self::AnyFd(path) => {
                // SAFETY: as above.
                unsafe { libc::setxattr(path.as_ptr(), name_ptr, bytes, size, flags.bits()) }
            }
        };
        Errno::result(returned).map(drop)
    }

    pub(super) fn remove(&self, name: &CStr) -> Result<()> {
        let name_ptr = name.as_ptr();
        let returned = match self {
            // SAFETY: `name` ends in NUL.
            Self::Open(fd) => unsafe { libc::fremovexattr(fd.as_raw_fd(), name_ptr) },
            Self::Entry(entry) => {
                return match entry.remove(name) {
                    Err(errno) if may_be_unknown(errno) => Self::by_path(entry).remove(name),
                    result => result,
                };
            }
            // SAFETY: as above, and so does the path.
            Self::EntryPath(path) => unsafe { libc::lremovexattr(path.as_ptr(), name_ptr) },
            // SAFETY: as above.
            Self::AnyFd(path) => unsafe { libc::removexattr(path.as_ptr(), name_ptr) },
        };
        Errno::result(returned).map(drop)
    }

    pub(super) fn by_path(entry: &Entry<'a>) -> Self {
        Self::EntryPath(ProcPath::new(entry.dir).join(entry))
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

    fn join(mut self, entry: &Entry<'_>) -> Self {
        let name = entry.name();
        self.bytes[self.len] = b'/';
        self.bytes[self.len + 1..][..name.len()].copy_from_slice(name);
        self.len += 1 + name.len();
        self
    }

    /// Ends in NUL, by the invariant.
    fn as_ptr(&self) -> *const libc::c_char {
        self.bytes.as_ptr().cast()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::{AsFd, RawFd};

    use super::*;
    use crate::test_dir;

    #[test]
    fn the_longest_path_fits() {
        // SAFETY: only its digits are used; nothing is done with the descriptor.
        let dir = unsafe { BorrowedFd::borrow_raw(RawFd::MAX) };
        let path = ProcPath::new(dir).join(&Entry::new(dir, &[b'x'; NAME_MAX][..]).unwrap());
        let text = CStr::from_bytes_until_nul(&path.bytes).unwrap();
        assert_eq!(text.count_bytes(), path.len);
        assert!(text.to_bytes().starts_with(b"/proc/thread-self/fd/2147483647/x"));
    }

    /// What kernels before 6.13 do, on any kernel.
    #[test]
    fn the_way_by_path_gives_the_same() {
        let dir = test_dir::on_disk();
        fs::write(dir.path().join("file"), b"").unwrap();
        let dirfd = File::open(dir.path()).unwrap();
        let entry = Entry::new(dirfd.as_fd(), "file").unwrap();
        let (name, mut buffer) = (c"user.graphdriver", [0; 64]);
        let by_path = Target::by_path(&entry);
        let usual = Target::Entry(entry);
        for (writer, reader) in [(&by_path, &usual), (&usual, &by_path)] {
            assert_eq!(reader.get(name, &mut buffer), Err(Errno::ENODATA));
            assert_eq!(writer.set(name, b"value", SetFlags::REPLACE), Err(Errno::ENODATA));
            assert_eq!(writer.set(name, b"value", SetFlags::CREATE), Ok(()));
            assert_eq!(writer.set(name, b"value", SetFlags::CREATE), Err(Errno::EEXIST));
            assert_eq!(reader.get(name, &mut []), Ok(5));
            assert_eq!(reader.get(name, &mut buffer[..4]), Err(Errno::ERANGE));
            assert_eq!(reader.get(name, &mut buffer), Ok(5));
            assert_eq!(&buffer[..5], b"value");
            let length = reader.list(&mut buffer).unwrap();
            let names = buffer[..length].split(|byte| *byte == 0);
            assert_eq!(names.filter(|found| *found == name.to_bytes()).count(), 1);
            assert_eq!(reader.list(&mut []), Ok(length));
            assert_eq!(writer.remove(name), Ok(()));
        }
    }
}
