//! The attribute calls of Linux 6.13, which take a directory and a name. They cost a quarter of the way through `/proc`.
//!
//! They are `setxattrat`, `getxattrat`, `listxattrat` and `removexattrat` of linux/xattr.h; the rest is as in
//! [lgetxattr(2)](https://man7.org/linux/man-pages/man2/getxattr.2.html) and its siblings.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{c_char, c_long, c_uint};
use nix::errno::Errno;
use nix::{NixPath, Result};

use super::SetFlags;
use crate::syscall;

/// The longest name of a directory entry.
pub(super) const NAME_MAX: usize = 255;

/// System calls added since Linux 5.1 have the same distance to each other on every architecture; libc has no numbers
/// for these four yet. `mount_setattr` is 442 in that common table.
const SYS_SETXATTRAT: c_long = libc::SYS_mount_setattr + 463 - 442;
const SYS_GETXATTRAT: c_long = SYS_SETXATTRAT + 1;
const SYS_LISTXATTRAT: c_long = SYS_SETXATTRAT + 2;
const SYS_REMOVEXATTRAT: c_long = SYS_SETXATTRAT + 3;

/// Set once the kernel said that it has none of these calls.
static MISSING: AtomicBool = AtomicBool::new(false);

/// One name in a directory, on the stack.
///
/// Invariant: `name` holds one component without NUL, then only zeroes, at least one.
pub(super) struct Entry<'a> {
    pub(super) dir: BorrowedFd<'a>,
    name: [u8; NAME_MAX + 1],
    len: usize,
}

/// `struct xattr_args` of linux/xattr.h.
#[repr(C)]
struct Args {
    value: u64,
    size: u32,
    flags: u32,
}

impl<'a> Entry<'a> {
    /// # Errors
    ///
    /// `EINVAL` when `entry` is not one component, or is `.` or `..`; `ENAMETOOLONG`.
    pub(super) fn new<E: ?Sized + NixPath>(dir: BorrowedFd<'a>, entry: &E) -> Result<Self> {
        entry.with_nix_path(|entry| {
            let entry = entry.to_bytes();
            if matches!(entry, b"" | b"." | b"..") || entry.contains(&b'/') {
                return Err(Errno::EINVAL);
            }
            let mut name = [0; NAME_MAX + 1];
            name[..NAME_MAX].get_mut(..entry.len()).ok_or(Errno::ENAMETOOLONG)?.copy_from_slice(entry);
            Ok(Self { dir, name, len: entry.len() })
        })?
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.name[..self.len]
    }

    pub(super) fn get(&self, name: &CStr, buffer: &mut [u8]) -> Result<usize> {
        let mut args = Args::new(buffer.as_mut_ptr(), buffer.len(), 0)?;
        call(|| {
            // SAFETY: both names end in NUL; the kernel writes at most `buffer.len()` bytes to `buffer`.
            unsafe {
                libc::syscall(
                    SYS_GETXATTRAT,
                    self.dir.as_raw_fd(),
                    self.as_ptr(),
                    libc::AT_SYMLINK_NOFOLLOW,
                    name.as_ptr(),
                    &raw mut args,
                    size_of::<Args>(),
                )
            }
        })
    }

    pub(super) fn list(&self, buffer: &mut [u8]) -> Result<usize> {
        call(|| {
            // SAFETY: the name ends in NUL; the kernel writes at most `buffer.len()` bytes to `buffer`.
            unsafe {
                libc::syscall(
                    SYS_LISTXATTRAT,
                    self.dir.as_raw_fd(),
                    self.as_ptr(),
                    libc::AT_SYMLINK_NOFOLLOW,
                    buffer.as_mut_ptr(),
                    buffer.len(),
                )
            }
        })
    }

    pub(super) fn set(&self, name: &CStr, value: &[u8], flags: SetFlags) -> Result<()> {
        let args = Args::new(value.as_ptr(), value.len(), flags.bits().cast_unsigned())?;
        call(|| {
            // SAFETY: both names end in NUL; the kernel reads `value.len()` bytes of `value`.
            unsafe {
                libc::syscall(
                    SYS_SETXATTRAT,
                    self.dir.as_raw_fd(),
                    self.as_ptr(),
                    libc::AT_SYMLINK_NOFOLLOW,
                    name.as_ptr(),
                    &raw const args,
                    size_of::<Args>(),
                )
            }
        })
        .map(drop)
    }

    pub(super) fn remove(&self, name: &CStr) -> Result<()> {
        call(|| {
            // SAFETY: both names end in NUL.
            unsafe {
                libc::syscall(
                    SYS_REMOVEXATTRAT,
                    self.dir.as_raw_fd(),
                    self.as_ptr(),
                    libc::AT_SYMLINK_NOFOLLOW,
                    name.as_ptr(),
                )
            }
        })
        .map(drop)
    }

    /// Ends in NUL, by the invariant.
    fn as_ptr(&self) -> *const c_char {
        self.name.as_ptr().cast()
    }
}

impl Args {
    fn new(value: *const u8, size: usize, flags: c_uint) -> Result<Self> {
        let size = u32::try_from(size).map_err(|_| Errno::E2BIG)?;
        Ok(Self { value: value.expose_provenance() as u64, size, flags })
    }
}

/// Whether `errno` may mean that the call never reached the file: the kernel lacks it, or a sandbox that does not know
/// it refused it, which some do with `EPERM`.
pub(super) fn may_be_unknown(errno: Errno) -> bool {
    matches!(errno, Errno::ENOSYS | Errno::EPERM)
}

fn call(make: impl FnOnce() -> c_long) -> Result<usize> {
    if MISSING.load(Ordering::Relaxed) {
        return Err(Errno::ENOSYS);
    }
    let result = syscall::count(make());
    if result == Err(Errno::ENOSYS) {
        MISSING.store(true, Ordering::Relaxed);
    }
    result
}
