//! What the kernel knows about a file, in one call.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};

use bitflags::bitflags;
use libc::c_uint;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::{NixPath, Result};

use crate::FileType;

bitflags! {
    /// Which facts to ask for. The kernel may give more, or fewer where the file system has none.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct StatxMask: c_uint {
        /// The kind of file.
        const TYPE = libc::STATX_TYPE;
        /// The permission bits.
        const MODE = libc::STATX_MODE;
        /// How many names the file has.
        const NLINK = libc::STATX_NLINK;
        /// The owner.
        const UID = libc::STATX_UID;
        /// The group.
        const GID = libc::STATX_GID;
        /// The last access.
        const ATIME = libc::STATX_ATIME;
        /// The last change of contents.
        const MTIME = libc::STATX_MTIME;
        /// The last change of anything.
        const CTIME = libc::STATX_CTIME;
        /// The inode number.
        const INO = libc::STATX_INO;
        /// The length.
        const SIZE = libc::STATX_SIZE;
        /// The space taken.
        const BLOCKS = libc::STATX_BLOCKS;
        /// All that `stat` gives.
        const BASIC_STATS = libc::STATX_BASIC_STATS;
        /// When the file was made.
        const BTIME = libc::STATX_BTIME;
        /// The mount that the file was reached through (Linux 5.8).
        const MNT_ID = libc::STATX_MNT_ID;
    }
}

/// A point in time: seconds since 1970, negative before, and nanoseconds from 0 to 999,999,999 after that second.
pub type Timestamp = (i64, u32);

/// The answer of [`statx`]: only what [`Statx::mask`] names was filled in, the rest is zero or what the file system
/// made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statx {
    /// Which of the facts below the file system gave.
    pub mask: StatxMask,
    /// The inode number.
    pub ino: u64,
    /// Major number of the device that holds the file.
    pub dev_major: u32,
    /// Minor number of the device that holds the file.
    pub dev_minor: u32,
    /// Major number of the device that the file is.
    pub rdev_major: u32,
    /// Minor number of the device that the file is.
    pub rdev_minor: u32,
    /// Kind and permission bits, as in `st_mode`.
    pub mode: u32,
    /// How many names the file has.
    pub nlink: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The length in bytes; of a symbolic link, that of its target.
    pub size: u64,
    /// The space taken, in units of 512 bytes.
    pub blocks: u64,
    /// The last access.
    pub atime: Timestamp,
    /// The last change of contents.
    pub mtime: Timestamp,
    /// The last change of contents, mode, owner, names or attributes.
    pub ctime: Timestamp,
    /// When the file was made, where the file system keeps that.
    pub btime: Option<Timestamp>,
    /// The mount that the file was reached through (Linux 5.8), as in the first field of `/proc/self/mountinfo`.
    pub mnt_id: Option<u64>,
    /// Whether this is the root of a mount; `None` when the kernel cannot tell (before Linux 5.8).
    pub is_mount_root: Option<bool>,
}

impl Statx {
    /// The device that holds the file, as in `st_dev`.
    pub fn dev(&self) -> u64 {
        libc::makedev(self.dev_major, self.dev_minor)
    }

    /// The device that the file is, as in `st_rdev`.
    pub fn rdev(&self) -> u64 {
        libc::makedev(self.rdev_major, self.rdev_minor)
    }

    /// The kind of file.
    pub const fn file_type(&self) -> FileType {
        FileType::from_mode(self.mode)
    }

    fn new(raw: &libc::statx) -> Self {
        let mask = StatxMask::from_bits_retain(raw.stx_mask);
        Self {
            mask,
            ino: raw.stx_ino,
            dev_major: raw.stx_dev_major,
            dev_minor: raw.stx_dev_minor,
            rdev_major: raw.stx_rdev_major,
            rdev_minor: raw.stx_rdev_minor,
            mode: u32::from(raw.stx_mode),
            nlink: raw.stx_nlink,
            uid: raw.stx_uid,
            gid: raw.stx_gid,
            size: raw.stx_size,
            blocks: raw.stx_blocks,
            atime: timestamp(&raw.stx_atime),
            mtime: timestamp(&raw.stx_mtime),
            ctime: timestamp(&raw.stx_ctime),
            btime: mask.contains(StatxMask::BTIME).then(|| timestamp(&raw.stx_btime)),
            mnt_id: mask.contains(StatxMask::MNT_ID).then_some(raw.stx_mnt_id),
            is_mount_root: attribute(raw, libc::STATX_ATTR_MOUNT_ROOT),
        }
    }
}

/// What is known about the file at `path` below `dir`.
///
/// `flags` are those of `fstatat`: [`AtFlags::AT_SYMLINK_NOFOLLOW`], [`AtFlags::AT_NO_AUTOMOUNT`], and
/// [`AtFlags::AT_EMPTY_PATH`] with an empty path for `dir` itself, whatever it is (also an `O_PATH` descriptor). An
/// absolute path ignores `dir`.
///
/// See [statx(2)](https://man7.org/linux/man-pages/man2/statx.2.html).
///
/// # Errors
///
/// `ENOSYS` before Linux 4.11: the system call is made without the C library, which would imitate it. `ENOENT`,
/// `ENOTDIR`, `EACCES`, `ELOOP` and the like as for `stat`.
#[doc(alias = "fstatat")]
pub fn statx<P: ?Sized + NixPath>(
    dir: impl AsFd,
    path: &P,
    flags: AtFlags,
    mask: StatxMask,
) -> Result<Statx> {
    let dir = dir.as_fd();
    let mut raw = MaybeUninit::<libc::statx>::zeroed();
    let returned = path.with_nix_path(|path| {
        // SAFETY: `path` ends in NUL and `raw` has room for one struct statx.
        unsafe {
            libc::syscall(
                libc::SYS_statx,
                dir.as_raw_fd(),
                path.as_ptr(),
                flags.bits(),
                mask.bits(),
                raw.as_mut_ptr(),
            )
        }
    })?;
    Errno::result(returned)?;
    // SAFETY: all of it is integers, zeroed above and then filled in by the kernel.
    Ok(Statx::new(unsafe { raw.assume_init_ref() }))
}

fn timestamp(raw: &libc::statx_timestamp) -> Timestamp {
    (raw.tv_sec, raw.tv_nsec)
}

/// `None` when the kernel did not say that it knows this attribute.
fn attribute(raw: &libc::statx, bit: libc::c_int) -> Option<bool> {
    let bit = u64::from(bit.unsigned_abs());
    (raw.stx_attributes_mask & bit != 0).then_some(raw.stx_attributes & bit != 0)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;
    use crate::test_dir;

    #[test]
    fn agrees_with_stat() {
        for dir in [test_dir::on_disk(), test_dir::on_tmpfs()] {
            fs::write(dir.path().join("file"), b"twelve bytes").unwrap();
            let fd = test_dir::open(dir.path());
            let got = statx(&fd, "file", AtFlags::empty(), StatxMask::BASIC_STATS).unwrap();
            let want = fs::metadata(dir.path().join("file")).unwrap();
            assert!(got.mask.contains(StatxMask::BASIC_STATS));
            assert_eq!((got.ino, got.dev(), got.rdev()), (want.ino(), want.dev(), want.rdev()));
            assert_eq!((got.mode, u64::from(got.nlink)), (want.mode(), want.nlink()));
            assert_eq!((got.uid, got.gid), (want.uid(), want.gid()));
            assert_eq!((got.size, got.blocks), (12, want.blocks()));
            assert_eq!((got.mtime.0, i64::from(got.mtime.1)), (want.mtime(), want.mtime_nsec()));
            assert_eq!((got.ctime.0, i64::from(got.ctime.1)), (want.ctime(), want.ctime_nsec()));
            assert_eq!(got.file_type(), FileType::Regular);
        }
    }

    #[test]
    fn device_numbers_are_split_and_joined() {
        let root = test_dir::open("/".as_ref());
        let got = statx(&root, "/dev/null", AtFlags::empty(), StatxMask::BASIC_STATS).unwrap();
        assert_eq!((got.rdev_major, got.rdev_minor), (1, 3));
        assert_eq!(got.rdev(), fs::metadata("/dev/null").unwrap().rdev());
        assert_eq!(got.file_type(), FileType::CharDevice);
    }

    #[test]
    fn an_empty_path_means_the_descriptor() {
        let dir = test_dir::on_disk();
        fs::write(dir.path().join("file"), b"abc").unwrap();
        let file = File::open(dir.path().join("file")).unwrap();
        let got = statx(&file, "", AtFlags::AT_EMPTY_PATH, StatxMask::BASIC_STATS).unwrap();
        assert_eq!(got.ino, file.metadata().unwrap().ino());
        assert_eq!(statx(&file, "", AtFlags::empty(), StatxMask::INO), Err(Errno::ENOENT));
    }

    #[test]
    fn links_are_followed_unless_told_otherwise() {
        let dir = test_dir::on_disk();
        symlink("absent", dir.path().join("link")).unwrap();
        let fd = test_dir::open(dir.path());
        let link = statx(&fd, "link", AtFlags::AT_SYMLINK_NOFOLLOW, StatxMask::BASIC_STATS).unwrap();
        assert_eq!((link.file_type(), link.size), (FileType::Symlink, 6));
        assert_eq!(statx(&fd, "link", AtFlags::empty(), StatxMask::INO), Err(Errno::ENOENT));
        assert_eq!(statx(&fd, &b"a\0b"[..], AtFlags::empty(), StatxMask::INO), Err(Errno::EINVAL));
    }
}
