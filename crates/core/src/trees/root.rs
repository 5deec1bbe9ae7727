//! The root directory of a tree.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use graphdriver_archive::{IdMaps, Owner, RootDir};
use graphdriver_sys::xattr::{self, SetFlags};
use nix::errno::Errno;

use crate::error::{Error, Result};

/// Mode of the root directory of a layer without parent, as in containers/storage, whose users are root at least of a user namespace.
const BASE_MODE: u32 = 0o555;

/// The same for an ordinary user, who could not write to his own layer otherwise; as in Docker.
const ORDINARY_BASE_MODE: u32 = 0o755;

/// Gives the root directory of a layer without parent its owner, root of the container that `id_maps` are for, and its mode.
///
/// With `ignore_chown_errors` an owner that cannot be set is passed over. Who may [write to what modes close](super::overrides_modes) gets the mode 0555, all others 0755.
///
/// # Errors
/// `InvalidArgument` for maps without root; `PermissionDenied`, `Io`.
pub fn dress_base(
    root: &RootDir,
    id_maps: &IdMaps,
    ignore_chown_errors: bool,
    overrides_modes: bool,
) -> Result<()> {
    // The root of no particular container is whoever makes the layer, if that is not the machine's root.
    let lenient = ignore_chown_errors || id_maps.is_identity();
    set_owner(root, id_maps.root()?, lenient)?;
    set_mode(root.path(), if overrides_modes { BASE_MODE } else { ORDINARY_BASE_MODE })
}

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
pub(super) fn empty_again(root: &RootDir, before: &fs::Metadata) -> Result<()> {
    root.remove_contents()?;
    fchown(root, Some(before.uid()), Some(before.gid()))
        .map_err(|error| Error::io("chown", root.path(), error))?;
    set_mode(root.path(), before.mode() & 0o7777)
}
