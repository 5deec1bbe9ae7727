//! Quota groups: what a subvolume refers to, counted and limited by the file system.
//!
//! Every subvolume has a group of its own, with the subvolume's number, where quotas are on.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};

use nix::Result;
use nix::errno::Errno;

use super::volume_id;
use crate::syscall;

/// Two ways of counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// Everything that a subvolume refers to counts for it, shared or not; who shares what is kept up to date.
    #[doc(alias = "BTRFS_QUOTA_CTL_ENABLE")]
    Shared,
    /// What was written to a subvolume first counts for it until it is gone ("simple quotas"): cheaper, and what a snapshot has from its parent does not count. Linux 6.7; older ones cannot mount such a file system any more.
    #[doc(alias = "BTRFS_QUOTA_CTL_ENABLE_SIMPLE_QUOTA")]
    Owned,
}

/// Turns the quotas of the file system on; nothing changes where they are. Needs `CAP_SYS_ADMIN`.
///
/// What is there already begins to be counted in the background; see [`wait_for_rescan`].
///
/// # Errors
///
/// `ENOTTY` where `file` is not on btrfs; `EPERM`, `EROFS`; `EINVAL` where the kernel cannot count in this way; `EEXIST` when it counts in the other one.
#[doc(alias = "BTRFS_IOC_QUOTA_CTL")]
pub fn enable(file: impl AsFd, counting: Counting) -> Result<()> {
    let command = match counting {
        Counting::Shared => 1,
        Counting::Owned => 4,
    };
    control(file, command)
}

/// Turns the quotas of the file system off; all limits are forgotten. Needs `CAP_SYS_ADMIN`.
///
/// # Errors
///
/// As [`enable`].
#[doc(alias = "BTRFS_QUOTA_CTL_DISABLE")]
pub fn disable(file: impl AsFd) -> Result<()> {
    control(file, 2)
}

/// Whether the quotas of the file system are on. Needs `CAP_SYS_ADMIN`, and that the file system can be written to.
///
/// # Errors
///
/// `ENOTTY` where `file` is not on btrfs; `EPERM`, `EROFS`.
pub fn is_enabled(file: impl AsFd) -> Result<bool> {
    // There is no request that only asks. This one has an answer of its own for quotas that are off, and otherwise finds no group of that number.
    match set_limit(file, u64::MAX, None) {
        Err(Errno::ENOTCONN) => Ok(false),
        Err(Errno::ENOENT) => Ok(true),
        result => result.map(|()| true),
    }
}

/// How the file system counts, as far as the kernel tells: Linux 6.7, below `/sys`. Older ones know [`Counting::Shared`] only.
#[doc(alias = "qgroups/mode")]
pub fn counting(file: impl AsFd) -> Option<Counting> {
    let mode = fs::read_to_string(format!("/sys/fs/btrfs/{}/qgroups/mode", uuid_text(volume_id(file).ok()?)))
        .ok()?;
    match mode.trim_end() {
        "squota" => Some(Counting::Owned),
        "qgroup" => Some(Counting::Shared),
        _ => None,
    }
}

/// Limits the bytes that the group `id` refers to; zero stands for the group of the subvolume that `file` lies in. `None` lifts the limit. Needs `CAP_SYS_ADMIN`.
///
/// A writer who would exceed it gets `EDQUOT`. What has been written and is not on the disk yet is counted generously.
///
/// # Errors
///
/// `ENOTTY` where `file` is not on btrfs; `EPERM`, `EROFS`; `ENOTCONN` where quotas are off (`EINVAL` before Linux 5.2); `ENOENT` when there is no such group.
#[doc(alias = "BTRFS_IOC_QGROUP_LIMIT")]
pub fn set_limit(file: impl AsFd, id: u64, bytes: Option<u64>) -> Result<()> {
    const MAX_REFERRED: u64 = 1;
    let mut arguments =
        RawLimit { id, flags: MAX_REFERRED, max_referred: bytes.unwrap_or(u64::MAX), ..RawLimit::default() };
    // SAFETY: the request reads one `struct btrfs_ioctl_qgroup_limit_args`, which `arguments` is.
    let result = unsafe { ioctl::limit(file.as_fd().as_raw_fd(), &raw mut arguments) }.map(drop);
    if result == Err(Errno::EINVAL) { Err(Errno::ENOTCONN) } else { result }
}

/// Makes the group `id`, which is there already for every subvolume that was made while quotas were on. Needs `CAP_SYS_ADMIN`.
///
/// # Errors
///
/// As [`set_limit`]; `EEXIST`.
#[doc(alias = "BTRFS_IOC_QGROUP_CREATE")]
pub fn create(file: impl AsFd, id: u64) -> Result<()> {
    create_or_delete(file, id, true)
}

/// Deletes the group `id` of a subvolume that is gone; the kernel does so by itself since Linux 6.11. Needs `CAP_SYS_ADMIN`.
///
/// # Errors
///
/// As [`set_limit`]; `EBUSY` while its subvolume is there, or not all of it is gone.
#[doc(alias = "BTRFS_IOC_QGROUP_CREATE")]
pub fn delete(file: impl AsFd, id: u64) -> Result<()> {
    create_or_delete(file, id, false)
}

/// Waits until what was there before quotas were on is counted.
///
/// # Errors
///
/// `ENOTTY` where `file` is not on btrfs; `EPERM`.
#[doc(alias = "BTRFS_IOC_QUOTA_RESCAN_WAIT")]
pub fn wait_for_rescan(file: impl AsFd) -> Result<()> {
    let raw = file.as_fd().as_raw_fd();
    syscall::retry_on_interrupt(|| {
        // SAFETY: the request has no argument.
        unsafe { ioctl::wait(raw) }.map(drop)
    })
}

/// As in [RFC 9562](https://www.rfc-editor.org/rfc/rfc9562).
fn uuid_text(id: [u8; 16]) -> String {
    let id = u128::from_be_bytes(id);
    let part = |shift: u32, digits: u32| (id >> shift) & ((1 << (4 * digits)) - 1);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        part(96, 8),
        part(80, 4),
        part(64, 4),
        part(48, 4),
        part(0, 12)
    )
}

fn control(file: impl AsFd, command: u64) -> Result<()> {
    let mut arguments = RawControl { command, status: 0 };
    // SAFETY: the request reads one `struct btrfs_ioctl_quota_ctl_args`, which `arguments` is.
    unsafe { ioctl::control(file.as_fd().as_raw_fd(), &raw mut arguments) }.map(drop)
}

fn create_or_delete(file: impl AsFd, id: u64, create: bool) -> Result<()> {
    let arguments = RawGroup { create: u64::from(create), id };
    // SAFETY: the request reads one `struct btrfs_ioctl_qgroup_create_args`, which `arguments` is.
    unsafe { ioctl::create(file.as_fd().as_raw_fd(), &raw const arguments) }.map(drop)
}

/// `struct btrfs_ioctl_quota_ctl_args`.
#[derive(Clone, Copy)]
#[repr(C)]
struct RawControl {
    command: u64,
    status: u64,
}

/// `struct btrfs_ioctl_qgroup_create_args`.
#[derive(Clone, Copy)]
#[repr(C)]
struct RawGroup {
    create: u64,
    id: u64,
}

/// `struct btrfs_ioctl_qgroup_limit_args`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct RawLimit {
    id: u64,
    flags: u64,
    max_referred: u64,
    max_exclusive: u64,
    reserved_referred: u64,
    reserved_exclusive: u64,
}

mod ioctl {
    use super::{RawControl, RawGroup, RawLimit};

    nix::ioctl_readwrite!(control, 0x94, 40, RawControl);
    nix::ioctl_write_ptr!(create, 0x94, 42, RawGroup);
    nix::ioctl_read!(limit, 0x94, 43, RawLimit);
    nix::ioctl_none!(wait, 0x94, 46);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_dir;

    #[test]
    fn laid_out_as_the_kernel_has_it() {
        assert_eq!((size_of::<RawControl>(), size_of::<RawGroup>(), size_of::<RawLimit>()), (16, 16, 48));
    }

    #[test]
    fn elsewhere_there_are_none() {
        let dir = test_dir::on_tmpfs();
        let open = test_dir::open(dir.path());
        assert_eq!(is_enabled(&open), Err(Errno::ENOTTY));
        assert_eq!(enable(&open, Counting::Shared), Err(Errno::ENOTTY));
        assert_eq!(wait_for_rescan(&open), Err(Errno::ENOTTY));
        assert_eq!(delete(&open, 256), Err(Errno::ENOTTY));
        assert_eq!(counting(&open), None);
    }

    #[test]
    fn identities_as_text() {
        let id = std::array::from_fn(|index| 0x11 * u8::try_from(index).unwrap());
        assert_eq!(uuid_text(id), "00112233-4455-6677-8899-aabbccddeeff");
    }
}
