//! What every driver that mounts needs beside the mount itself.

use std::os::fd::OwnedFd;
use std::path::Path;

use graphdriver_sys::mount_api::{
    MountAttr, MountAttrFlags, OpenTreeFlags, Propagation, SetAttrFlags, mount_setattr, move_mount, open_tree,
};
use graphdriver_sys::mount_point::is_mount_point;
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::{FsFlags, statvfs};

use crate::error::{Error, ErrorKind, Result};

/// Keeps mounts below `dir` from spreading to other mount namespaces, where they would keep layers busy.
///
/// The directory is bound onto itself unless it is a mount point, and made private. Whether it was bound is the answer: who binds may [unmount](unmount_lazily) at the end.
///
/// # Errors
/// `PermissionDenied` without `CAP_SYS_ADMIN`; `Io`.
#[doc(alias = "MakePrivate")]
pub fn make_private(dir: &Path) -> Result<bool> {
    let failed = |call| move |errno| Error::syscall(call, dir, errno);
    let bind = !is_mount_point(AT_FDCWD, dir).map_err(|error| Error::io("statx", dir, error))?;
    if bind {
        mount(Some(dir), dir, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(failed("mount"))?;
    }
    let private =
        mount(None::<&str>, dir, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>).map_err(failed("mount"));
    if private.is_err() && bind {
        unmount_lazily(dir)?;
    }
    private.map(|()| bind)
}

/// Shows the directory `source` at `target` too, where nothing can be written to it. Mounts below `source` are not shown.
///
/// # Errors
/// `PermissionDenied` without `CAP_SYS_ADMIN`; `Io`. Nothing is mounted then.
pub fn bind_read_only(source: &Path, target: &Path) -> Result<()> {
    let failed = |call| move |errno| Error::syscall(call, target, errno);
    match detached_read_only(source) {
        Ok(mount) => move_mount(mount, AT_FDCWD, target).map_err(failed("move_mount")),
        Err(Errno::ENOSYS) => remounted_read_only(source, target).map_err(failed("mount")),
        Err(errno) => Err(Error::syscall("bind", source, errno)),
    }
}

fn detached_read_only(source: &Path) -> nix::Result<OwnedFd> {
    let mount = open_tree(AT_FDCWD, source, OpenTreeFlags::CLONE)?;
    let attributes = MountAttr {
        set: MountAttrFlags::RDONLY,
        propagation: Some(Propagation::Private),
        ..MountAttr::default()
    };
    mount_setattr(&mount, c"", SetAttrFlags::EMPTY_PATH, &attributes)?;
    Ok(mount)
}

/// The same before Linux 5.12, in two steps: it can be written to in between.
fn remounted_read_only(source: &Path, target: &Path) -> nix::Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    let private = mount(None::<&str>, target, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>);
    let read_only = private.and_then(|()| {
        // What is not repeated would be taken away, and in a user namespace that is refused.
        let flags = statvfs(target)?.flags();
        let kept = [
            (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
            (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
            (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
            (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
            (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
            (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
        ];
        let kept = kept.into_iter().filter(|(has, _)| flags.contains(*has)).map(|(_, flag)| flag);
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        let flags = kept.fold(flags, |flags, flag| flags | flag);
        mount(None::<&str>, target, None::<&str>, flags, None::<&str>)
    });
    read_only.inspect_err(|_| {
        if let Err(errno) = umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            tracing::warn!(?target, %errno, "a mount that could not be made read-only stays");
        }
    })
}

/// Takes what is mounted at `path` out of sight at once; the kernel lets go of it when its last user does. Nothing mounted there is fine.
///
/// # Errors
/// `PermissionDenied` without `CAP_SYS_ADMIN`; `Io`.
#[doc(alias = "Unmount")]
#[doc(alias = "MNT_DETACH")]
pub fn unmount_lazily(path: &Path) -> Result<()> {
    match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(errno) => Err(Error::syscall("umount2", path, errno)),
    }
}

/// The mount option that gives all files of a mount the SELinux label `label`, quoted since labels have commas: `context="..."`.
///
/// For `mount(2)`; `fsconfig(2)` takes the key `context` with the label as it is.
///
/// # Errors
/// `InvalidArgument` for a label with a quotation mark or a NUL.
#[doc(alias = "FormatMountLabel")]
pub fn context_option(label: &str) -> Result<String> {
    if label.contains(['"', '\0']) {
        let detail = format!("{label:?} is no SELinux label");
        return Err(Error::new(ErrorKind::InvalidArgument, "format mount label").detail(detail));
    }
    Ok(format!("context=\"{label}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_quoted() {
        let label = "system_u:object_r:container_file_t:s0:c1,c2";
        assert_eq!(context_option(label).unwrap(), format!("context=\"{label}\""));
        assert_eq!(context_option("a\",rw,x=\"b").unwrap_err().kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn unmounting_what_is_not_there_is_fine() {
        // Without privilege the kernel does not even look.
        for path in ["/nonexistent", "/proc/self"] {
            match unmount_lazily(Path::new(path)) {
                Ok(()) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied),
            }
        }
    }
}
