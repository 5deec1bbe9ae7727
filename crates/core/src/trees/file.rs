//! Reading a file of a tree.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use graphdriver_archive::{RootDir, clean_name};
use graphdriver_sys::FileType;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstat, fstatat};

use crate::error::{Error, ErrorKind, Result};

/// Opens the regular file `path` of the tree `root` for reading. No symbolic link is followed.
///
/// # Errors
/// `Io` with the error number of an `open(2)`: `ENOENT`, `ENOTDIR`, `ELOOP` for a symbolic link in its place, `EISDIR`; `InvalidArgument` for a device, a fifo or a socket;
/// `PathEscape` for a path that leaves the root.
pub fn open_file(root: &RootDir, path: &Path) -> Result<File> {
    let clean = clean_name(path.as_os_str().as_bytes())?;
    let failed = |errno| Error::syscall("open", path, errno);
    let (Some(above), Some(name)) = (clean.parent(), clean.file_name()) else {
        return Err(failed(Errno::EISDIR));
    };
    let mut dir: OwnedFd =
        root.as_fd().try_clone_to_owned().map_err(|error| Error::io("dup", root.path(), error))?;
    for component in above {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        dir = openat(&dir, component, flags, Mode::empty()).map_err(failed)?;
    }
    let require_regular = |mode| match FileType::from_mode(mode) {
        FileType::Regular => Ok(()),
        FileType::Directory => Err(failed(Errno::EISDIR)),
        FileType::Symlink => Err(failed(Errno::ELOOP)),
        _ => {
            Err(Error::new(ErrorKind::InvalidArgument, "open").path(path).detail("it is not a regular file"))
        }
    };
    // Looked at first, because to open a device does something to it.
    require_regular(fstatat(&dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed)?.st_mode)?;
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = openat(&dir, name, flags, Mode::empty()).map_err(failed)?;
    require_regular(fstat(&file).map_err(failed)?.st_mode)?;
    Ok(file.into())
}
