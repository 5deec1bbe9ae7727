//! Mounting an EROFS image that lies in a file.
//!
//! The kernel reads the file itself (Linux 6.12) where the file system below can be read in the way that this needs: not tmpfs. Otherwise the file gets a loop device, which the kernel frees when the
//! mount ends. So there is nothing to be undone of a process that was killed.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use graphdriver_core::{Error, ErrorKind, Result};
use graphdriver_sys::loop_device::LoopDevice;
use graphdriver_sys::mount_api::{FsContext, FsError, MountAttrFlags};
use nix::errno::Errno;

use super::{MAX_STRING, failed};

/// A composefs image begins with a magic number, a version and flags, of four bytes each; the lowest flag says that there are ACLs.
const HEAD_BYTES: usize = 12;
const COMPOSEFS_MAGIC: [u8; 4] = 0xd078_629a_u32.to_le_bytes();
const VERSION_AT: usize = 4;
const FLAGS_AT: usize = 8;
const HAS_ACL: u8 = 1;
/// From this version on an image has no whiteouts but those of its tree.
const PLAIN_VERSION: u8 = 2;
/// Of the file system, and where it is.
const EROFS_MAGIC: [u8; 4] = 0xe0f5_e1e2_u32.to_le_bytes();
const EROFS_MAGIC_AT: u64 = 1024;

/// Mounts the image in the file `path`, read-only, and attaches it nowhere: it is used through the descriptor, and by mounts that are made of it.
///
/// # Errors
/// `NotSupported` when the kernel has no EROFS, or neither reads the file nor has a loop device for it; `PermissionDenied`, as in user namespaces; `Io` for what is no image, with the
/// kernel's own words where it has any.
pub(crate) fn open_image(path: &Path) -> Result<OwnedFd> {
    let file = open_file(path)?;
    let has_acl = head(path, &file)?[FLAGS_AT] & HAS_ACL != 0;
    let by_descriptor = format!("/proc/thread-self/fd/{}", file.as_raw_fd());
    let is_short = path.as_os_str().as_bytes().len() <= MAX_STRING;
    let source = if is_short { path } else { Path::new(&by_descriptor) };
    match mount(source, has_acl) {
        Err(error) if error.errno == Errno::ENOTBLK => {}
        mounted => return mounted.map_err(|error| refused(path, error)),
    }
    let device = LoopDevice::attach_read_only(&file).map_err(|error| no_device(path, error))?;
    mount(device.path(), has_acl).map_err(|error| refused(path, error))
}

/// Looks at an image without mounting it.
///
/// # Errors
/// `Io` for a file that is not there, or is no image.
pub(crate) fn check_image(path: &Path) -> Result<()> {
    let file = open_file(path)?;
    let mut magic = [0; 4];
    let read = file.read_exact_at(&mut magic, EROFS_MAGIC_AT);
    read.map_err(|error| Error::io("read image", path, error))?;
    if head(path, &file)?.starts_with(&COMPOSEFS_MAGIC) && magic == EROFS_MAGIC {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Io, "check image").path(path).detail("it is no composefs image"))
}

/// Whether the image hides what its tree hides, and nothing else. Those that mkcomposefs makes for containers/storage have marks of their own in the root.
///
/// # Errors
/// `Io`.
pub(crate) fn is_plain_image(path: &Path) -> Result<bool> {
    Ok(head(path, &open_file(path)?)?[VERSION_AT] >= PLAIN_VERSION)
}

/// Opens it without following a symbolic link, and without waiting for who might write to a fifo.
fn open_file(path: &Path) -> Result<File> {
    let failed = |error| Error::io("open image", path, error);
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_file() {
        return Ok(file);
    }
    Err(Error::new(ErrorKind::Io, "open image").path(path).detail("it is not a regular file"))
}

fn mount(source: &Path, has_acl: bool) -> Result<OwnedFd, FsError> {
    let context = FsContext::open(c"erofs")?;
    context.set_string(c"source", source)?;
    context.set_flag(c"ro")?;
    if !has_acl {
        // Saves looking for them in each file.
        context.set_flag(c"noacl")?;
    }
    context.create()?;
    context.mount(MountAttrFlags::RDONLY | MountAttrFlags::NOSUID | MountAttrFlags::NODEV)
}

fn head(path: &Path, mut file: &File) -> Result<[u8; HEAD_BYTES]> {
    let mut head = [0; HEAD_BYTES];
    file.read_exact(&mut head).map_err(|error| Error::io("read image", path, error))?;
    Ok(head)
}

fn refused(path: &Path, error: FsError) -> Error {
    match error.errno {
        Errno::ENODEV => Error::new(ErrorKind::NotSupported, "mount image")
            .path(path)
            .detail("the kernel has no EROFS; its module may be missing")
            .source(error),
        errno => failed("mount image", path, errno).source(error),
    }
}

fn no_device(path: &Path, error: io::Error) -> Error {
    let detail = "the kernel cannot mount the file itself (Linux 6.12, and not from tmpfs), and there is no loop device for it";
    Error::new(ErrorKind::NotSupported, "mount image").path(path).detail(detail).source(error)
}
