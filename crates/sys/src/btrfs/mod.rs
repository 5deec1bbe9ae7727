//! btrfs: subvolumes and what they may hold.
//!
//! See [btrfs-ioctl(5)](https://btrfs.readthedocs.io/en/latest/btrfs-ioctl.html) and the kernel's `linux/btrfs.h`.
//!
//! | module | ioctls |
//! |---|---|
//! | [`subvolume`] | create, snapshot, destroy, flags, identity, the subvolumes inside |
//! | [`qgroup`] | quotas on, limits, waiting for the counters |

pub mod qgroup;
pub mod subvolume;
