//! Owner, mode, times and attributes of a copy.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use graphdriver_sys::FileType;
use graphdriver_sys::xattr::{self, SetFlags};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, UtimensatFlags, fchmod, fchmodat, fstat, futimens, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat};

use super::{Shared, Step};
use crate::xattrs;

impl Shared {
    /// Gives the open file or directory `to` the metadata of `from`.
    ///
    /// The owner first, because changing it takes away set-id bits and capabilities; the times last.
    pub(super) fn copy_open_metadata(&self, from: &impl AsFd, to: &impl AsFd, stat: &FileStat) -> Step {
        let is = fstat(to).map_err(|errno| ("fstat", errno))?;
        if (is.st_uid, is.st_gid) != (stat.st_uid, stat.st_gid) {
            let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            fchown(to, Some(uid), Some(gid)).map_err(|errno| ("fchown", errno))?;
        }
        let is_mark = |name: &CStr| {
            self.overlay_marks.is_some_and(|xattrs| {
                [xattrs.opaque(), xattrs.redirect(), xattrs.metacopy(), xattrs.whiteout()].contains(&name)
            })
        };
        let found = xattrs::of_file_and(from, is_mark).map_err(|errno| ("fgetxattr", errno))?;
        let (attributes, marks) = found;
        for attribute in attributes.iter().chain(&marks) {
            self.check_set(xattr::fset(to, attribute.name.as_c_str(), &attribute.value, SetFlags::empty()))?;
        }
        // An ACL sets permission bits too.
        if is.st_mode != stat.st_mode || !attributes.is_empty() {
            fchmod(to, mode_of(stat)).map_err(|errno| ("fchmod", errno))?;
        }
        let (accessed, modified) = times_of(stat);
        futimens(to, &accessed, &modified).map_err(|errno| ("futimens", errno))
    }

    /// Gives the entry `name` of `to`, which is neither file nor directory, the metadata of the entry of the same name of `from`.
    pub(super) fn copy_entry_metadata(
        &self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
        stat: &FileStat,
    ) -> Step {
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        fchownat(to, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(|errno| ("fchownat", errno))?;
        for attribute in xattrs::of_entry(from, name).map_err(|errno| ("lgetxattr", errno))? {
            let set = xattr::set_at(to, name, attribute.name.as_c_str(), &attribute.value, SetFlags::empty());
            self.check_set(set)?;
        }
        if !FileType::from_mode(stat.st_mode).is_symlink() {
            // Just made by this process and no symbolic link, so that following links does not matter.
            fchmodat(to, name, mode_of(stat), FchmodatFlags::FollowSymlink)
                .map_err(|errno| ("fchmodat", errno))?;
        }
        let (accessed, modified) = times_of(stat);
        utimensat(to, name, &accessed, &modified, UtimensatFlags::NoFollowSymlink)
            .map_err(|errno| ("utimensat", errno))
    }

    fn check_set(&self, set: nix::Result<()>) -> Step {
        match set {
            Err(Errno::EPERM) if self.in_user_namespace => Ok(()),
            set => set.map_err(|errno| ("setxattr", errno)),
        }
    }
}

fn mode_of(stat: &FileStat) -> Mode {
    Mode::from_bits_truncate(stat.st_mode & 0o7777)
}

/// Access and modification time.
fn times_of(stat: &FileStat) -> (TimeSpec, TimeSpec) {
    (TimeSpec::new(stat.st_atime, stat.st_atime_nsec), TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec))
}
