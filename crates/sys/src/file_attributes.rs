//! Attributes of an inode that only some file systems have: flags, and the project that it belongs to.

use std::os::fd::{AsFd, AsRawFd};

use bitflags::bitflags;
use nix::Result;

bitflags! {
    /// Flags of an inode. Those without a name here are kept as they are.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct AttributeFlags: u32 {
        /// What is made in this directory gets the directory's project, and this flag where it is a directory. Nothing can be renamed or linked into it from another project (`EXDEV`).
        #[doc(alias = "FS_XFLAG_PROJINHERIT")]
        const PROJECT_INHERIT = 0x200;

        const _ = !0;
    }
}

/// What [`get`] tells of an inode and [`set`] changes: `struct fsxattr` of linux/fs.h, which libc lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[doc(alias = "fsxattr")]
pub struct FileAttributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_on_write_extent_size: u32,
    padding: [u8; 8],
}

impl FileAttributes {
    /// The flags.
    pub fn flags(&self) -> AttributeFlags {
        AttributeFlags::from_bits_retain(self.flags)
    }

    /// The project id; zero for an inode that belongs to no project.
    pub fn project(&self) -> u32 {
        self.project
    }

    /// The same with these flags.
    #[must_use]
    pub fn with_flags(mut self, flags: AttributeFlags) -> Self {
        self.flags = flags.bits();
        self
    }

    /// The same in this project.
    #[must_use]
    pub fn with_project(mut self, id: u32) -> Self {
        self.project = id;
        self
    }
}

mod ioctl {
    use super::FileAttributes;

    nix::ioctl_read!(get, b'X', 31, FileAttributes);
    nix::ioctl_write_ptr!(set, b'X', 32, FileAttributes);
}

/// The attributes of an open file (not `O_PATH`).
///
/// See [ioctl_xfs_fsgetxattr(2)](https://man7.org/linux/man-pages/man2/ioctl_xfs_fsgetxattr.2.html); ext4 has it since Linux 4.5, file systems in general
/// since 5.13.
///
/// # Errors
///
/// `ENOTTY` or `EOPNOTSUPP` where the file system has no such attributes; `EBADF`.
#[doc(alias = "FS_IOC_FSGETXATTR")]
pub fn get(file: impl AsFd) -> Result<FileAttributes> {
    let mut attributes = FileAttributes::default();
    // SAFETY: the request writes one `struct fsxattr`, which `attributes` is.
    unsafe { ioctl::get(file.as_fd().as_raw_fd(), &raw mut attributes) }?;
    Ok(attributes)
}

/// Gives an open file (not `O_PATH`) these attributes, which must come from [`get`] on the same file.
///
/// Setting a project or the flag for it needs to own the file and, outside of the initial user namespace, fails.
///
/// # Errors
///
/// As [`get`]; `EPERM`, `EACCES`; `EINVAL` (another project in a user namespace); `EOPNOTSUPP` (ext4 without the feature `project`); `EOVERFLOW` (ext4 with small inodes); `EDQUOT`, `ENOSPC` where what the
/// file holds exceeds the project's limits; `EROFS`.
#[doc(alias = "FS_IOC_FSSETXATTR")]
pub fn set(file: impl AsFd, attributes: &FileAttributes) -> Result<()> {
    // SAFETY: the request reads one `struct fsxattr`, which `attributes` is.
    unsafe { ioctl::set(file.as_fd().as_raw_fd(), std::ptr::from_ref(attributes)) }.map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use nix::errno::Errno;

    use super::*;
    use crate::test_dir;

    #[test]
    fn laid_out_as_the_kernel_has_it() {
        assert_eq!(size_of::<FileAttributes>(), 28);
        assert_eq!(std::mem::offset_of!(FileAttributes, project), 12);
        assert_eq!(std::mem::offset_of!(FileAttributes, padding), 20);
    }

    #[test]
    fn flags_without_a_name_are_kept() {
        let attributes = FileAttributes { flags: 0x8000_0201, ..FileAttributes::default() };
        assert!(attributes.flags().contains(AttributeFlags::PROJECT_INHERIT));
        let without = attributes.with_flags(attributes.flags() - AttributeFlags::PROJECT_INHERIT);
        assert_eq!(without.flags, 0x8000_0001);
        assert_eq!(without.with_project(7).project(), 7);
    }

    /// What the file system is depends on the machine, but one that gives attributes takes them back.
    #[test]
    fn what_was_read_can_be_set() {
        let dir = test_dir::on_disk();
        let file = File::open(dir.path()).unwrap();
        match get(&file) {
            Ok(attributes) => {
                set(&file, &attributes).unwrap();
                assert_eq!(get(&file).unwrap(), attributes);
            }
            Err(errno) => assert!(matches!(errno, Errno::ENOTTY | Errno::EOPNOTSUPP), "{errno}"),
        }
    }

    #[test]
    fn what_is_no_file_on_a_disk_has_none() {
        let pipe = std::io::pipe().unwrap().0;
        assert_eq!(get(&pipe).unwrap_err(), Errno::ENOTTY);
    }
}
