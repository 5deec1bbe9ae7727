//! Whether an overlay layer's directory alone says what the layer changes.

use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;

use graphdriver_sys::dents::Buffer;
use graphdriver_sys::{FileType, xattr};
use nix::errno::Errno;
use nix::sys::stat::FileStat;

use crate::error::{Error, Result};
use crate::root::RootDir;
use crate::walk::{DirStack, Listing, as_path, lstat_at, open_dir_at, push_name};
use crate::whiteout::OverlayXattrs;

/// Whether the overlay layer in `upper` can be exported by itself: false when a directory in it was renamed by a mount with
/// `redirect_dir`, or the contents of a file are still in the layer below because of `metacopy`.
///
/// Looks at every file, but reads attributes of directories and of files with holes only.
///
/// # Errors
/// The kind of the failed system call, with the path inside `upper`.
pub fn overlay_upper_is_plain(upper: &RootDir, xattrs: OverlayXattrs) -> Result<bool> {
    let top = open_dir_at(upper, ".").map_err(|errno| Error::syscall("openat", upper.path(), errno))?;
    let mut dirs = DirStack::new(top);
    let mut buffer = Buffer::new();
    let mut path = Vec::new();
    let Some(pending) = entries(dirs.current(), &path, &mut buffer, xattrs)? else { return Ok(false) };
    let mut levels = vec![(0, pending)];
    while let Some((above_bytes, pending)) = levels.last_mut() {
        let failed = |errno| Error::syscall("openat", as_path(&path), errno);
        let Some(name) = pending.pop() else {
            dirs.pop().map_err(failed)?;
            path.truncate(*above_bytes);
            levels.pop();
            continue;
        };
        match open_dir_at(dirs.current(), name.as_c_str()) {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => continue,
            opened => dirs.push(opened.map_err(failed)?).map_err(failed)?,
        }
        let above_bytes = path.len();
        push_name(&mut path, &name);
        let Some(pending) = entries(dirs.current(), &path, &mut buffer, xattrs)? else { return Ok(false) };
        levels.push((above_bytes, pending));
    }
    Ok(true)
}

/// Whether a file is what it seems; `has` tells whether it has an attribute.
pub(super) fn is_plain(
    stat: &FileStat,
    xattrs: OverlayXattrs,
    has: impl Fn(&CStr) -> nix::Result<bool>,
) -> nix::Result<bool> {
    let name = match FileType::from_mode(stat.st_mode) {
        FileType::Directory => xattrs.redirect(),
        // The kernel leaves a hole where the contents are to go.
        FileType::Regular if stat.st_blocks.saturating_mul(512) < stat.st_size => xattrs.metacopy(),
        _ => return Ok(true),
    };
    match has(name) {
        Err(Errno::EOPNOTSUPP) => Ok(true),
        has => has.map(|has| !has),
    }
}

/// The directories in `dir`, or `None` when one of its entries is not plain.
fn entries(
    dir: BorrowedFd<'_>,
    path: &[u8],
    buffer: &mut Buffer,
    xattrs: OverlayXattrs,
) -> Result<Option<Vec<CString>>> {
    let failed = |operation, errno| Error::syscall(operation, as_path(path), errno);
    let listing = Listing::read(dir, buffer).map_err(|errno| failed("getdents64", errno))?;
    let mut directories = Vec::new();
    for name in (0..listing.len()).filter_map(|index| listing.name(index)) {
        let stat = match lstat_at(dir, name) {
            Err(Errno::ENOENT) => continue,
            stat => stat.map_err(|errno| failed("fstatat", errno))?,
        };
        let has = |attribute: &CStr| xattr::get_at(dir, name, attribute).map(|value| value.is_some());
        match is_plain(&stat, xattrs, has) {
            Ok(true) | Err(Errno::ENOENT) => {}
            Ok(false) => return Ok(None),
            Err(errno) => return Err(failed("lgetxattr", errno)),
        }
        if FileType::from_mode(stat.st_mode).is_dir() {
            directories.push(name.to_owned());
        }
    }
    Ok(Some(directories))
}
