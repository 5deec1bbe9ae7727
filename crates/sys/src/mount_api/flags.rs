//! The flags of the mount calls.

use bitflags::bitflags;
use libc::c_uint;

bitflags! {
    /// Attributes of one mount, not of the file system behind it.
    ///
    /// The access time settings are values of one field: give one of them at most.
    #[doc(alias = "MOUNT_ATTR")]
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct MountAttrFlags: u64 {
        /// Nothing can be written through this mount.
        const RDONLY = libc::MOUNT_ATTR_RDONLY;
        /// Set-user-id and set-group-id bits and file capabilities have no effect.
        const NOSUID = libc::MOUNT_ATTR_NOSUID;
        /// Device files cannot be opened.
        const NODEV = libc::MOUNT_ATTR_NODEV;
        /// Programs cannot be run.
        const NOEXEC = libc::MOUNT_ATTR_NOEXEC;
        /// Access times are never updated.
        const NOATIME = libc::MOUNT_ATTR_NOATIME;
        /// Access times are always updated.
        const STRICTATIME = libc::MOUNT_ATTR_STRICTATIME;
        /// Access times of directories are never updated.
        const NODIRATIME = libc::MOUNT_ATTR_NODIRATIME;
        /// All bits of the access time setting; cleared and nothing set, it is `relatime`.
        const ATIME_MASK = libc::MOUNT_ATTR__ATIME;
        /// Ids are mapped; set by [`MountAttr::userns`](super::MountAttr::userns).
        const IDMAP = libc::MOUNT_ATTR_IDMAP;
        /// Symbolic links are not followed (Linux 5.14).
        const NOSYMFOLLOW = libc::MOUNT_ATTR_NOSYMFOLLOW;
    }
}

bitflags! {
    /// How [`open_tree`](super::open_tree) opens.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct OpenTreeFlags: c_uint {
        /// Copy the mount; the copy is attached nowhere.
        const CLONE = libc::OPEN_TREE_CLONE;
        /// With [`OpenTreeFlags::CLONE`]: copy the mounts below too.
        const RECURSIVE = AT_RECURSIVE;
        /// An empty path means the descriptor itself.
        const EMPTY_PATH = libc::AT_EMPTY_PATH.cast_unsigned();
        /// Do not follow a symbolic link at the end of the path.
        const SYMLINK_NOFOLLOW = libc::AT_SYMLINK_NOFOLLOW.cast_unsigned();
        /// Do not mount what an automount point at the end of the path stands for.
        const NO_AUTOMOUNT = libc::AT_NO_AUTOMOUNT.cast_unsigned();
    }
}

bitflags! {
    /// Which mounts [`mount_setattr`](super::mount_setattr) changes.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct SetAttrFlags: c_uint {
        /// The mounts below too: all of them or none.
        const RECURSIVE = AT_RECURSIVE;
        /// An empty path means the descriptor itself.
        const EMPTY_PATH = libc::AT_EMPTY_PATH.cast_unsigned();
        /// Do not follow a symbolic link at the end of the path.
        const SYMLINK_NOFOLLOW = libc::AT_SYMLINK_NOFOLLOW.cast_unsigned();
        /// Do not mount what an automount point at the end of the path stands for.
        const NO_AUTOMOUNT = libc::AT_NO_AUTOMOUNT.cast_unsigned();
    }
}

/// Of linux/fcntl.h; libc has it for some C libraries only.
const AT_RECURSIVE: c_uint = 0x8000;

/// Whether mounts made below one mount appear below its copies in other namespaces.
///
/// See [mount_namespaces(7)](https://man7.org/linux/man-pages/man7/mount_namespaces.7.html).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Propagation {
    /// Neither received nor sent.
    #[doc(alias = "MS_PRIVATE")]
    Private,
    /// Received and sent.
    #[doc(alias = "MS_SHARED")]
    Shared,
    /// Received only.
    #[doc(alias = "MS_SLAVE")]
    Slave,
    /// Neither, and no copy can be made.
    #[doc(alias = "MS_UNBINDABLE")]
    Unbindable,
}

impl Propagation {
    pub(super) fn bits(self) -> u64 {
        match self {
            Self::Private => libc::MS_PRIVATE,
            Self::Shared => libc::MS_SHARED,
            Self::Slave => libc::MS_SLAVE,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}
