//! Mounting through a file-system context: one parameter for each directory, nothing joined, nothing limited to a page.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use graphdriver_core::{Error, Result};
use graphdriver_sys::mount_api::{FsContext, FsError};

use super::{MAX_STRING, OverlayMount, escape, failed, open_directory};

/// The mount, attached nowhere.
pub(super) fn detached(mount: &OverlayMount<'_>) -> Result<OwnedFd> {
    let context = configure(mount)?;
    context.create().map_err(|error| refused("mount overlay", mount.target, error))?;
    context.mount(mount.attributes.flags).map_err(|error| refused("fsmount", mount.target, error))
}

/// Whether the kernel has overlay and lets this process configure one.
pub(crate) fn is_there() -> bool {
    FsContext::open(c"overlay").is_ok()
}

/// Whether the kernel knows `userxattr`; false where that cannot be found out before mounting.
pub(crate) fn knows_userxattr() -> bool {
    FsContext::open(c"overlay").is_ok_and(|context| context.set_flag(c"userxattr").is_ok())
}

fn configure(mount: &OverlayMount<'_>) -> Result<FsContext> {
    let failed = |error| refused("configure overlay mount", mount.target, error);
    let context = FsContext::open(c"overlay").map_err(failed)?;
    context.set_string(c"source", c"overlay").map_err(failed)?;
    for (key, directories) in [(c"lowerdir+", mount.lowers), (c"datadir+", mount.data_only)] {
        for directory in directories {
            set_directory(&context, key, directory, directory.as_os_str().as_bytes())?;
        }
    }
    if let Some(upper) = mount.upper {
        set_directory(&context, c"upperdir", upper.directory, &escape(upper.directory, b"\\"))?;
        set_directory(&context, c"workdir", upper.work, &escape(upper.work, b"\\"))?;
    }
    for (key, value) in mount.parameters.iter() {
        let set = match value {
            Some(value) => context.set_string(key, value),
            None => context.set_flag(key),
        };
        set.map_err(failed)?;
    }
    if let Some(label) = mount.label {
        context.set_string(c"context", label).map_err(failed)?;
    }
    Ok(context)
}

/// Names a directory by its path, by which mountinfo shows it, or by descriptor where the path is too long.
fn set_directory(context: &FsContext, key: &CStr, path: &Path, text: &[u8]) -> Result<()> {
    let refused = |error| refused("configure overlay mount", path, error);
    if text.len() <= MAX_STRING {
        return context.set_string(key, text).map_err(refused);
    }
    let directory = open_directory(path)?;
    // From Linux 6.13; with descriptors like this one not in all versions.
    context.set_fd(key, &directory).or_else(|_| {
        let name = format!("/proc/thread-self/fd/{}", directory.as_fd().as_raw_fd());
        context.set_string(key, name.as_str()).map_err(refused)
    })
}

fn refused(operation: &'static str, path: &Path, error: FsError) -> Error {
    failed(operation, path, error.errno).source(error)
}
