//! The root directory of a tree.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use graphdriver_archive::{Owner, RootDir};
use graphdriver_sys::xattr::{self, SetFlags};
use nix::errno::Errno;

use crate::error::{Error, Result};

/// Sets the owner of the directory. With `lenient`, one that may not be set, or that a user namespace has not, is passed over.
///
/// # Errors
/// `PermissionDenied`, `Io`.
pub fn set_owner(root: &RootDir, owner: Owner, lenient: bool) -> Result<()> {
    match fchown(root, Some(owner.uid), Some(owner.gid)) {
        Err(error)
            if lenient
                && matches!(
                    error.raw_os_error().map(Errno::from_raw),
                    Some(Errno::EPERM | Errno::EINVAL)
                ) =>
        {
            tracing::debug!(path = ?root.path(), %owner, %error, "the owner of a layer's root stays as it is");
            Ok(())
        }
        result => {
            result.map_err(|error| Error::io("chown", root.path(), error).detail(format!("to {owner}")))
        }
    }
}

/// Sets the twelve permission bits.
///
/// # Errors
/// `PermissionDenied`, `Io`.
pub fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(|error| Error::io("chmod", path, error))
}

/// Gives the directory an SELinux label. Where there is no SELinux there is nothing to label.
///
/// # Errors
/// `PermissionDenied`; `InvalidArgument`, `Io` for what is no label.
pub fn set_label(root: &RootDir, label: &str) -> Result<()> {
    match xattr::fset(root, "security.selinux", label.as_bytes(), SetFlags::empty()) {
        Ok(()) | Err(Errno::EOPNOTSUPP) => Ok(()),
        Err(errno) => {
            Err(Error::syscall("fsetxattr", root.path(), errno).detail(format!("SELinux label {label:?}")))
        }
    }
}

/// Removes all that is in the directory, and makes it what it was `before`, when nothing was in it.
///
/// # Errors
/// `Io`; what could not be removed stays.
pub fn empty_again(root: &RootDir, before: &fs::Metadata) -> Result<()> {
    root.remove_contents()?;
    fchown(root, Some(before.uid()), Some(before.gid()))
        .map_err(|error| Error::io("chown", root.path(), error))?;
    set_mode(root.path(), before.mode() & 0o7777)
}
