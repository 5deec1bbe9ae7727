//! Quotas of projects: directory trees whose space and inodes the file system counts and limits.
//!
//! The commands are those of XFS. The kernel translates between them and its own ones, so that they work on every file system with quotas, ext4 too, and the limits have 64 bits on all of them.
//!
//! See [quotactl(2)](https://man7.org/linux/man-pages/man2/quotactl.2.html) and the kernel's `linux/dqblk_xfs.h`.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::{NixPath, Result};

/// Where the kernel is to look for quotas.
#[derive(Clone, Copy, Debug)]
pub enum Volume<'a> {
    /// The file system of an open file, by `quotactl_fd(2)` of Linux 5.14.
    File(BorrowedFd<'a>),
    /// The file system on the block device with this path, by `quotactl(2)`.
    Device(&'a Path),
}

/// What the file system does about projects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaState {
    /// Space and inodes are counted.
    pub counted: bool,
    /// Limits are enforced.
    pub enforced: bool,
}

/// Limits of one project; zero stands for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Space, in units of [`BLOCK_BYTES`].
    pub blocks: u64,
    /// Inodes.
    pub inodes: u64,
}

/// One project's counters and limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProjectRecord {
    /// Space in use or promised to writes under way, in units of [`BLOCK_BYTES`].
    pub blocks: u64,
    /// Inodes in use.
    pub inodes: u64,
    /// The hard limits.
    pub limits: Limits,
}

/// Bytes in a block of [`Limits`] and [`ProjectRecord`], on every file system.
pub const BLOCK_BYTES: u64 = 512;

/// Whether the kernel has `quotactl_fd(2)` (Linux 5.14), and no filter denies it.
///
/// The call answers `ENOSYS` also on file systems without quotas, so that its result does not tell.
#[doc(alias = "quotactl_fd")]
pub fn takes_files() -> bool {
    // SAFETY: the call is given a null pointer, and ends at the descriptor that is none.
    let returned = unsafe {
        libc::syscall(libc::SYS_quotactl_fd, command(Q_GETINFO), -1, 0, std::ptr::null_mut::<libc::c_void>())
    };
    Errno::result(returned) == Err(Errno::EBADF)
}

/// Whether projects are counted and limited.
///
/// # Errors
///
/// - `ENOSYS`: the file system has no quotas, or they are off, or (for [`Volume::File`]) the call is missing; [`is_possible`] and [`takes_files`] tell which.
/// - `EINVAL`: the file system has quotas, but not of projects.
/// - `ENOTBLK`, `ENOENT`, `ENODEV` for a device that is none, or is not mounted.
#[doc(alias = "Q_XGETQSTATV")]
pub fn state(volume: Volume<'_>) -> Result<QuotaState> {
    let mut state = RawState { version: 1, ..RawState::default() };
    call(volume, Q_XGETQSTATV, 0, &mut state)?;
    Ok(QuotaState {
        counted: state.flags & FS_QUOTA_PDQ_ACCT != 0,
        enforced: state.flags & FS_QUOTA_PDQ_ENFD != 0,
    })
}

/// Whether the file system, in this kernel, could have quotas of projects, be they on or off.
///
/// # Errors
///
/// As [`state`], for the device.
#[doc(alias = "Q_GETINFO")]
pub fn is_possible(volume: Volume<'_>) -> Result<bool> {
    // `struct if_dqinfo`, which is not looked at.
    let mut information = [0_u64; 3];
    match call(volume, Q_GETINFO, 0, &mut information) {
        Err(Errno::ENOSYS | Errno::EINVAL) => Ok(false),
        // No quotas are on.
        Err(Errno::ESRCH) => Ok(true),
        result => result.map(|()| true),
    }
}

/// The record of project `id`; all zero for one that was never used.
///
/// Needs `CAP_SYS_ADMIN` in the initial user namespace.
///
/// # Errors
///
/// `EPERM`; as [`state`]; `ESRCH` where quotas are off.
#[doc(alias = "Q_XGETPQUOTA")]
pub fn record(volume: Volume<'_>, id: u32) -> Result<ProjectRecord> {
    let mut record = RawRecord::default();
    match call(volume, Q_XGETQUOTA, id, &mut record) {
        // XFS keeps no record of such a project, ext4 answers with zeros.
        Err(Errno::ENOENT) if matches!(volume, Volume::File(_)) => return Ok(ProjectRecord::default()),
        // Here the name of the device may be what is missing.
        Err(Errno::ENOENT) => return state(volume).map(|_| ProjectRecord::default()),
        result => result?,
    }
    Ok(ProjectRecord {
        blocks: record.blocks,
        inodes: record.inodes,
        limits: Limits { blocks: record.block_hard_limit, inodes: record.inode_hard_limit },
    })
}

/// Sets the limits of project `id`, hard and soft ones alike.
///
/// Needs `CAP_SYS_ADMIN` in the initial user namespace.
///
/// # Errors
///
/// `EPERM`, `EROFS`, `ERANGE` (more than the file system can store); as [`record`].
#[doc(alias = "Q_XSETPQLIM")]
pub fn set_limits(volume: Volume<'_>, id: u32, limits: Limits) -> Result<()> {
    let mut record = RawRecord {
        version: 1,
        flags: FS_PROJ_QUOTA,
        field_mask: FS_DQ_ISOFT | FS_DQ_IHARD | FS_DQ_BSOFT | FS_DQ_BHARD,
        id,
        block_hard_limit: limits.blocks,
        block_soft_limit: limits.blocks,
        inode_hard_limit: limits.inodes,
        inode_soft_limit: limits.inodes,
        ..RawRecord::default()
    };
    call(volume, Q_XSETQLIM, id, &mut record)
}

// linux/quota.h, linux/dqblk_xfs.h.
const Q_GETINFO: u32 = 0x80_0005;
const Q_XGETQUOTA: u32 = xfs_command(3);
const Q_XSETQLIM: u32 = xfs_command(4);
const Q_XGETQSTATV: u32 = xfs_command(8);
const PRJQUOTA: u32 = 2;
const FS_PROJ_QUOTA: i8 = 1 << 1;
const FS_QUOTA_PDQ_ACCT: u16 = 1 << 4;
const FS_QUOTA_PDQ_ENFD: u16 = 1 << 5;
const FS_DQ_ISOFT: u16 = 1 << 0;
const FS_DQ_IHARD: u16 = 1 << 1;
const FS_DQ_BSOFT: u16 = 1 << 2;
const FS_DQ_BHARD: u16 = 1 << 3;

const fn xfs_command(number: u32) -> u32 {
    (b'X' as u32) << 8 | number
}

/// The command for quotas of projects.
const fn command(command: u32) -> u32 {
    command << 8 | PRJQUOTA
}

/// A structure that is all numbers, so that whatever the kernel writes to it is a value of it.
trait Plain {}

/// `struct fs_disk_quota` (`fs_disk_quota_t`).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct RawRecord {
    version: i8,
    flags: i8,
    field_mask: u16,
    id: u32,
    block_hard_limit: u64,
    block_soft_limit: u64,
    inode_hard_limit: u64,
    inode_soft_limit: u64,
    blocks: u64,
    inodes: u64,
    inode_timer: i32,
    block_timer: i32,
    inode_warnings: u16,
    block_warnings: u16,
    timers_high: [i8; 4],
    realtime_hard_limit: u64,
    realtime_soft_limit: u64,
    realtime_blocks: u64,
    realtime_timer: i32,
    realtime_warnings: u16,
    padding: i16,
    more_padding: [u8; 8],
}

/// `struct fs_quota_statv`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct RawState {
    version: i8,
    padding: u8,
    flags: u16,
    in_core: u32,
    /// User, group and project: inode, blocks, extents of each.
    files: [[u64; 3]; 3],
    time_limits: [i32; 3],
    warning_limits: [u16; 4],
    more_padding: u32,
    reserved: [u64; 7],
}

impl Plain for RawRecord {}
impl Plain for RawState {}
impl Plain for [u64; 3] {}

fn call<T: Plain>(volume: Volume<'_>, number: u32, id: u32, data: &mut T) -> Result<()> {
    let (number, data) = (command(number), std::ptr::from_mut(data));
    let returned = match volume {
        // SAFETY: each command above comes with the structure that the kernel reads or writes for it, which outlives the call.
        Volume::File(file) => unsafe {
            libc::syscall(libc::SYS_quotactl_fd, file.as_raw_fd(), number, id, data)
        },
        Volume::Device(path) => path.with_nix_path(|path| {
            // SAFETY: as above; the path ends in NUL.
            unsafe { libc::syscall(libc::SYS_quotactl, number, path.as_ptr(), id, data) }
        })?,
    };
    Errno::result(returned).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::mem::offset_of;
    use std::os::fd::AsFd;

    use super::*;
    use crate::test_dir;

    #[test]
    fn laid_out_as_the_kernel_has_it() {
        assert_eq!(size_of::<RawRecord>(), 112);
        assert_eq!(offset_of!(RawRecord, block_hard_limit), 8);
        assert_eq!(offset_of!(RawRecord, blocks), 40);
        assert_eq!(offset_of!(RawRecord, inode_timer), 56);
        assert_eq!(offset_of!(RawRecord, timers_high), 68);
        assert_eq!(offset_of!(RawRecord, realtime_hard_limit), 72);
        assert_eq!(offset_of!(RawRecord, more_padding), 104);
        assert_eq!(size_of::<RawState>(), 160);
        assert_eq!(offset_of!(RawState, flags), 2);
        assert_eq!(offset_of!(RawState, files), 8);
        assert_eq!(offset_of!(RawState, time_limits), 80);
        assert_eq!(offset_of!(RawState, reserved), 104);
    }

    #[test]
    fn commands_as_the_kernel_numbers_them() {
        assert_eq!(command(Q_XGETQUOTA), 0x0058_0302);
        assert_eq!(command(Q_XSETQLIM), 0x0058_0402);
        assert_eq!(command(Q_XGETQSTATV), 0x0058_0802);
        assert_eq!(command(Q_GETINFO), 0x8000_0502);
    }

    /// tmpfs has no projects in any kernel so far.
    #[test]
    fn tmpfs_has_none() {
        let dir = test_dir::on_tmpfs();
        let file = File::open(dir.path()).unwrap();
        let volume = Volume::File(file.as_fd());
        let errno = state(volume).unwrap_err();
        assert!(matches!(errno, Errno::ENOSYS | Errno::EINVAL), "{errno}");
        assert_eq!(is_possible(volume), Ok(false));
    }

    #[test]
    fn devices_are_looked_up() {
        assert_eq!(state(Volume::Device(Path::new("/dev/null"))).unwrap_err(), Errno::ENOTBLK);
        assert_eq!(record(Volume::Device(Path::new("/nonexistent")), 1).unwrap_err(), Errno::ENOENT);
    }
}
