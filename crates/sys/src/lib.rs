//! Linux kernel interfaces that the graphdriver crates need and `nix` lacks.
//!
//! The only crate of the family with `unsafe`. One file per interface; each wrapper names the manual page it follows and
//! takes file descriptors, so that no path is resolved twice.
//!
//! Conventions:
//! - Errors are the kernel's own numbers ([`nix::errno::Errno`], or [`std::io::Error`] where a file under `/proc` is
//!   read). Callers add the operation and the path.
//! - Names and paths are anything that implements [`nix::NixPath`] (`&Path`, `&OsStr`, `&CStr`, `&[u8]`): bytes, not
//!   text. A NUL inside is `EINVAL`.
//! - A call that the running kernel lacks fails with `ENOSYS`; the fallback is the caller's choice.
//! - Every file descriptor made here is close-on-exec.
//!
//! | module | kernel interface |
//! |---|---|
//! | [`mount_api`] | fsopen, fsconfig, fsmount, move_mount, open_tree, mount_setattr |
//! | [`mount_point`] | is this path the root of a mount? |
//! | [`xattr`] | extended attributes by descriptor and by directory entry |
//! | [`statx`](mod@statx) | statx |
//! | [`dents`] | getdents64 |
//! | [`file_type`] | the seven kinds of file, from `d_type` or `st_mode` |
//! | [`clone_file`](mod@clone_file) | the FICLONE ioctl |
//! | [`dedupe_range`](mod@dedupe_range) | the FIDEDUPERANGE ioctl |
//! | [`extents`](mod@extents) | the FIEMAP ioctl |
//! | [`loop_device`] | files as block devices |
//! | [`btrfs`] | subvolumes, quota groups and trees of btrfs |
//! | [`verity`] | fs-verity: the ENABLE_VERITY and MEASURE_VERITY ioctls |
//! | [`file_attributes`] | flags and project of an inode: the FSGETXATTR and FSSETXATTR ioctls |
//! | [`project_quota`] | quotactl and quotactl_fd, for projects |
//! | [`ofd_lock`] | open file description locks |
//! | [`capability`] | capget |
//! | `libzfs` | datasets and pools of ZFS, through the C library of that name; with the feature of that name |
//! | [`peer_groups`](mod@peer_groups) | the `SO_PEERGROUPS` socket option |
//! | [`umask`] | the process's file mode creation mask |
//! | [`user_namespace`] | are we in the initial user namespace? a new one with given maps |

pub mod btrfs;
pub mod capability;
pub mod clone_file;
pub mod dedupe_range;
pub mod dents;
pub mod extents;
pub mod file_attributes;
pub mod file_type;
#[cfg(feature = "libzfs")]
pub mod libzfs;
pub mod loop_device;
pub mod mount_api;
pub mod mount_point;
pub mod ofd_lock;
pub mod peer_groups;
pub mod project_quota;
pub mod statx;
pub mod umask;
pub mod user_namespace;
pub mod verity;
pub mod xattr;

mod syscall;
#[cfg(test)]
mod test_dir;

pub use clone_file::clone_file;
pub use dedupe_range::dedupe_range;
pub use extents::extents;
pub use file_type::FileType;
pub use peer_groups::peer_groups;
pub use statx::{Statx, StatxMask, statx};
