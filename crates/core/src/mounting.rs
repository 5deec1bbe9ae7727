//! What every driver that mounts needs beside the mount itself.

use std::path::Path;

use graphdriver_sys::mount_point::is_mount_point;
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

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
