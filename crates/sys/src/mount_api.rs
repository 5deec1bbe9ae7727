//! Mounts as file descriptors: the system calls of Linux 5.2 and later.
//!
//! A file system is configured key by key in an [`FsContext`], becomes a mount that is not attached anywhere, and is then
//! moved to its place. Values are not joined to one string, so a directory name may hold `:`, `,` or a newline, and
//! the kernel says in words what it did not like.
//!
//! ```no_run
//! use graphdriver_sys::mount_api::{FsContext, MountAttrFlags, move_mount};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let context = FsContext::open(c"tmpfs")?;
//! context.set_string(c"size", "1m")?;
//! context.set_flag(c"ro")?;
//! context.create()?;
//! let mount = context.mount(MountAttrFlags::NODEV)?;
//! let target = std::fs::File::open("/mnt")?;
//! move_mount(&mount, &target, c"")?;
//! # Ok(())
//! # }
//! ```
//!
//! All of it needs `CAP_SYS_ADMIN` in the user namespace that owns the mount namespace, and fails with `EPERM` otherwise.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::{NixPath, Result};

pub use self::flags::{MountAttrFlags, OpenTreeFlags, Propagation, SetAttrFlags};
pub use self::fs_context::{FsContext, FsError};

mod flags;
mod fs_context;
#[cfg(test)]
mod tests;

/// Attaches `mount`, the root of a detached mount or a mount point to be moved, at `path` below `dir`; an empty path
/// means `dir` itself. Neither symbolic links nor automounts are followed at the end of `path`.
///
/// Linux 5.2. See [move_mount(2)](https://man7.org/linux/man-pages/man2/move_mount.2.html).
///
/// # Errors
///
/// `EPERM`; `EINVAL` (not the root of a mount, a mount in another mount namespace, or one below a shared mount);
/// `ENOTDIR` (directory on file or the other way round), `ELOOP` (into itself), `ENOENT`, `ENOSYS`.
#[doc(alias = "MOVE_MOUNT_F_EMPTY_PATH")]
#[doc(alias = "MOVE_MOUNT_T_EMPTY_PATH")]
pub fn move_mount<P: ?Sized + NixPath>(mount: impl AsFd, dir: impl AsFd, path: &P) -> Result<()> {
    let (mount, dir) = (mount.as_fd(), dir.as_fd());
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    let returned = path.with_nix_path(|path| {
        // SAFETY: both paths end in NUL and outlive the call.
        unsafe {
            libc::syscall(
                libc::SYS_move_mount,
                mount.as_raw_fd(),
                c"".as_ptr(),
                dir.as_raw_fd(),
                path.as_ptr(),
                flags,
            )
        }
    })?;
    Errno::result(returned).map(drop)
}

/// The mount at `path` below `dir`, or with [`OpenTreeFlags::CLONE`] a detached copy of it: what a bind mount is made of.
///
/// Without [`OpenTreeFlags::CLONE`] this is an `O_PATH` descriptor and needs no privilege. A detached copy vanishes when
/// its descriptor is closed before [`move_mount`].
///
/// Linux 5.2. See [open_tree(2)](https://man7.org/linux/man-pages/man2/open_tree.2.html).
///
/// # Errors
///
/// `EPERM`; `EINVAL` (contradicting flags, or a copy without [`OpenTreeFlags::RECURSIVE`] of what may not be uncovered);
/// `ENOENT`, `EACCES`, `ENOSYS` and the like.
#[doc(alias = "bind mount")]
pub fn open_tree<P: ?Sized + NixPath>(dir: impl AsFd, path: &P, flags: OpenTreeFlags) -> Result<OwnedFd> {
    let dir = dir.as_fd();
    let flags = flags.bits() | libc::OPEN_TREE_CLOEXEC;
    let returned = path.with_nix_path(|path| {
        // SAFETY: the path ends in NUL and outlives the call.
        unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) }
    })?;
    // SAFETY: open_tree makes a descriptor, which was not looked at before.
    unsafe { owned_fd(returned) }
}

/// What [`mount_setattr`] changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct MountAttr<'fd> {
    /// Attributes to set. For one of the access time settings, put [`MountAttrFlags::ATIME_MASK`] in `clear` too.
    pub set: MountAttrFlags,
    /// Attributes to clear, before `set` is applied.
    pub clear: MountAttrFlags,
    /// How mounts below spread from now on; `None` leaves it.
    pub propagation: Option<Propagation>,
    /// Shows the mount's files with the ids that this user namespace maps them to. [`MountAttrFlags::IDMAP`] is added to
    /// `set`. The mount must be detached and not mapped yet.
    pub userns: Option<BorrowedFd<'fd>>,
}

/// Changes attributes of the mount at `path` below `dir`; an empty path with [`SetAttrFlags::EMPTY_PATH`] means `dir`
/// itself, which may be a detached mount.
///
/// Linux 5.12. See [mount_setattr(2)](https://man7.org/linux/man-pages/man2/mount_setattr.2.html).
///
/// # Errors
///
/// `EPERM` (also for an attribute locked in a less privileged mount namespace); `EINVAL` (not the root of a mount, or
/// the file system cannot map ids); `EBUSY` (read-only while files are open for writing); `ENOENT`, `ENOSYS`.
pub fn mount_setattr<P: ?Sized + NixPath>(
    dir: impl AsFd,
    path: &P,
    flags: SetAttrFlags,
    attributes: &MountAttr<'_>,
) -> Result<()> {
    let dir = dir.as_fd();
    let (mut set, mut userns_fd) = (attributes.set, 0);
    if let Some(userns) = attributes.userns {
        set |= MountAttrFlags::IDMAP;
        userns_fd = u64::from(userns.as_raw_fd().unsigned_abs());
    }
    let raw = libc::mount_attr {
        attr_set: set.bits(),
        attr_clr: attributes.clear.bits(),
        propagation: attributes.propagation.map_or(0, Propagation::bits),
        userns_fd,
    };
    let returned = path.with_nix_path(|path| {
        // SAFETY: the path ends in NUL; the kernel reads as many bytes of `raw` as it is long. Both outlive the call.
        unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                dir.as_raw_fd(),
                path.as_ptr(),
                flags.bits(),
                &raw const raw,
                size_of_val(&raw),
            )
        }
    })?;
    Errno::result(returned).map(drop)
}

/// The result of a system call that makes a file descriptor.
///
/// # Safety
///
/// `returned` is what such a call returned, and nothing else has taken it.
unsafe fn owned_fd(returned: libc::c_long) -> Result<OwnedFd> {
    let raw = RawFd::try_from(Errno::result(returned)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the caller hands over the only copy of an open descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}
