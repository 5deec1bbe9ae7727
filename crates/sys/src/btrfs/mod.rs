//! btrfs: subvolumes, what they may hold, and the trees that everything is kept in.
//!
//! See [btrfs-ioctl(5)](https://btrfs.readthedocs.io/en/latest/btrfs-ioctl.html) and the kernel's `linux/btrfs.h`.
//!
//! [`volume_id`] tells one file system from another; the rest is in modules.
//!
//! | module | ioctls |
//! |---|---|
//! | [`subvolume`] | create, snapshot, destroy, flags, identity, the subvolumes inside |
//! | [`qgroup`] | quotas on, limits, waiting for the counters |
//! | [`search`] | reading trees, by key and by age; committing |
//! | [`item`] | what is in the items of a tree (no ioctl) |

pub mod item;
pub mod qgroup;
pub mod search;
pub mod subvolume;

use std::os::fd::{AsFd, AsRawFd};

use nix::Result;

/// The identity of the file system that an open file is on: one for all of its subvolumes, each of which has a device number of its own.
///
/// # Errors
///
/// `ENOTTY` where the file is not on btrfs.
#[doc(alias = "BTRFS_IOC_FS_INFO")]
pub fn volume_id(file: impl AsFd) -> Result<[u8; 16]> {
    let mut raw = RawVolume { head: [0; 2], id: [0; 16], rest: [0; 992] };
    // SAFETY: the request writes one `struct btrfs_ioctl_fs_info_args`, which `raw` is.
    unsafe { ioctl::volume(file.as_fd().as_raw_fd(), &raw mut raw) }?;
    Ok(raw.id)
}

/// `struct btrfs_ioctl_fs_info_args`.
#[derive(Clone, Copy)]
#[repr(C)]
struct RawVolume {
    head: [u64; 2],
    id: [u8; 16],
    rest: [u8; 992],
}

mod ioctl {
    use super::RawVolume;

    nix::ioctl_read!(volume, 0x94, 31, RawVolume);
}
