//! A container's root directory: the layer, with the kernel's file systems mounted in it.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use graphdriver::{Error, ErrorKind};
use graphdriver_sys::mount_api::{MountAttr, MountAttrFlags, SetAttrFlags, mount_setattr};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, fchdir, pivot_root};

use super::devices::HostDevices;

/// Flags of file systems that hold no programs and no devices.
pub(super) const INERT: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// Makes `root` the root directory of this process and of all others in its mount namespace, with `/proc`, `/dev` and `/sys` in it, and the old root out of reach.
///
/// Everything inside is mounted after the move: a symbolic link of the layer then leads nowhere but into the layer.
///
/// # Errors
/// `PermissionDenied` without privilege; `InvalidArgument` when the layer has a file in the place of one of those directories; `Io`.
pub(super) fn enter(root: &Path) -> Result<(), Error> {
    // So that nothing that happens here shows in the host's mounts.
    attach(None, "/", None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None)?;
    let host_root = open_path(Path::new("/"))?;
    let host_sys = open_path(Path::new("/sys")).ok();
    let devices = HostDevices::open();
    move_to(root)?;
    mount_proc()?;
    devices.mount()?;
    mount_sys(host_sys.as_ref())?;
    leave(&host_root)
}

/// By `pivot_root(2)` rather than `chroot(2)`: a root directory that is a mount of its own cannot be left by a process with privilege, and the old root can
/// be unmounted.
fn move_to(root: &Path) -> Result<(), Error> {
    // The new root has to be a mount.
    mount(Some(root), root, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .map_err(|errno| Error::syscall("mount", root, errno))?;
    let new_root = open_path(root)?;
    fchdir(&new_root).map_err(|errno| Error::syscall("fchdir", root, errno))?;
    // Both in one place, as the manual page describes: the old root is now mounted over the new one, where no path leads, and no directory has to be made
    // for it.
    pivot_root(".", ".").map_err(|errno| Error::syscall("pivot_root", root, errno))
}

/// Takes the old root out of the namespace.
fn leave(host_root: &OwnedFd) -> Result<(), Error> {
    fchdir(host_root).map_err(|errno| Error::syscall("fchdir", "/", errno))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(|errno| Error::syscall("umount2", "/", errno))?;
    chdir("/").map_err(|errno| Error::syscall("chdir", "/", errno))
}

fn mount_proc() -> Result<(), Error> {
    directory("/proc")?;
    attach(Some("proc"), "/proc", Some("proc"), INERT, None).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => {
            error.detail("a user namespace may mount /proc only where nothing is mounted over parts of it")
        }
        _ => error,
    })
}

/// sysfs shows the network namespace, so that only who owns that may mount it; others get the host's.
fn mount_sys(host: Option<&OwnedFd>) -> Result<(), Error> {
    directory("/sys")?;
    match (attach(Some("sysfs"), "/sys", Some("sysfs"), INERT | MsFlags::MS_RDONLY, None), host) {
        (Err(error), Some(host)) if error.kind() == ErrorKind::PermissionDenied => {
            attach(Some(&by_descriptor(host)), "/sys", None, MsFlags::MS_BIND | MsFlags::MS_REC, None)?;
            make_read_only("/sys")
        }
        (mounted, _) => mounted,
    }
}

/// With all that is mounted below, or alone where the kernel is older than Linux 5.12; what is below belongs to the host's root then too.
fn make_read_only(target: &'static str) -> Result<(), Error> {
    let attributes = MountAttr { set: MountAttrFlags::RDONLY, ..MountAttr::default() };
    match mount_setattr(AT_FDCWD, target, SetAttrFlags::RECURSIVE, &attributes) {
        Err(Errno::ENOSYS) => {
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | INERT;
            attach(None, target, None, flags, None)
        }
        result => result.map_err(|errno| Error::syscall("mount_setattr", target, errno)),
    }
}

/// mount(2) on an absolute path, which the error names.
pub(super) fn attach(
    source: Option<&str>,
    target: &str,
    kind: Option<&str>,
    flags: MsFlags,
    options: Option<&str>,
) -> Result<(), Error> {
    mount(source, target, kind, flags, options).map_err(|errno| Error::syscall("mount", target, errno))
}

/// Makes sure that there is a directory to mount on.
pub(super) fn directory(path: &str) -> Result<(), Error> {
    match fs::create_dir(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Error::io("mkdir", path, error)),
    }
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => {
            let error = Error::new(ErrorKind::InvalidArgument, "mount").path(path);
            Err(error.detail("the layer has something else than a directory there"))
        }
        Err(error) => Err(Error::io("stat", path, error)),
    }
}

/// A descriptor that stands for a place only.
pub(super) fn open_path(path: &Path) -> Result<OwnedFd, Error> {
    open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| Error::syscall("open", path, errno))
}

/// The path that leads to an open descriptor's place, whatever can be seen from here.
pub(super) fn by_descriptor(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Whether it was the options of a mount that the kernel did not like.
pub(super) fn is_of_options(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.and_then(io::Error::raw_os_error) == Some(Errno::EINVAL as i32)
}
