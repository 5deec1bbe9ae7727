//! Whether an overlay layer's directory alone says what the layer changes.

use std::ffi::CStr;

use graphdriver_sys::{FileType, xattr};
use nix::errno::Errno;
use nix::sys::stat::FileStat;

use crate::error::{Error, Result};
use crate::root::RootDir;
use crate::walk::{Visited, as_path, visit_tree};
use crate::whiteout::OverlayXattrs;

/// Whether the overlay layer in `upper` can be exported by itself: false when a directory in it was renamed by a mount with
/// `redirect_dir`, or the contents of a file are still in the layer below because of `metacopy`.
///
/// Looks at every file, but reads attributes of directories and of files with holes only.
///
/// # Errors
/// The kind of the failed system call, with the path inside `upper`.
pub fn overlay_upper_is_plain(upper: &RootDir, xattrs: OverlayXattrs) -> Result<bool> {
    let mut plain = true;
    visit_tree(upper, |Visited { dir, name, path, stat }| {
        let has =
            |attribute: &CStr| xattr::get_at(dir, name.as_c_str(), attribute).map(|value| value.is_some());
        plain = match is_plain(stat, xattrs, has) {
            Err(Errno::ENOENT) => true,
            plain => plain.map_err(|errno| Error::syscall("lgetxattr", as_path(path), errno))?,
        };
        Ok(plain)
    })?;
    Ok(plain)
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
