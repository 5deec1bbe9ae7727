//! The kinds of file that Linux knows.

/// The kind of a file, as a directory entry or a mode tells it.
///
/// See [inode(7)](https://man7.org/linux/man-pages/man7/inode.7.html).
#[doc(alias = "d_type")]
#[doc(alias = "S_IFMT")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileType {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A UNIX domain socket.
    Socket,
    /// A character device; with device number 0/0, an overlay whiteout.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// The file system does not say in its directory entries, or says something that Linux does not define: ask
    /// [`statx`](crate::statx()).
    Unknown,
}

impl FileType {
    /// The kind that a directory entry's `d_type` names.
    ///
    /// See [readdir(3)](https://man7.org/linux/man-pages/man3/readdir.3.html).
    #[doc(alias = "DT_REG")]
    pub const fn from_d_type(d_type: u8) -> Self {
        match d_type {
            libc::DT_REG => Self::Regular,
            libc::DT_DIR => Self::Directory,
            libc::DT_LNK => Self::Symlink,
            libc::DT_FIFO => Self::Fifo,
            libc::DT_SOCK => Self::Socket,
            libc::DT_CHR => Self::CharDevice,
            libc::DT_BLK => Self::BlockDevice,
            _ => Self::Unknown,
        }
    }

    /// The kind that the upper bits of a mode name; the permission bits are not looked at.
    pub const fn from_mode(mode: u32) -> Self {
        match mode & libc::S_IFMT {
            libc::S_IFREG => Self::Regular,
            libc::S_IFDIR => Self::Directory,
            libc::S_IFLNK => Self::Symlink,
            libc::S_IFIFO => Self::Fifo,
            libc::S_IFSOCK => Self::Socket,
            libc::S_IFCHR => Self::CharDevice,
            libc::S_IFBLK => Self::BlockDevice,
            _ => Self::Unknown,
        }
    }

    /// Whether this is a directory.
    pub const fn is_dir(self) -> bool {
        matches!(self, Self::Directory)
    }

    /// Whether this is a regular file.
    pub const fn is_file(self) -> bool {
        matches!(self, Self::Regular)
    }

    /// Whether this is a symbolic link.
    pub const fn is_symlink(self) -> bool {
        matches!(self, Self::Symlink)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_entry_types_agree() {
        let kinds = [
            (libc::S_IFREG, libc::DT_REG, FileType::Regular),
            (libc::S_IFDIR, libc::DT_DIR, FileType::Directory),
            (libc::S_IFLNK, libc::DT_LNK, FileType::Symlink),
            (libc::S_IFIFO, libc::DT_FIFO, FileType::Fifo),
            (libc::S_IFSOCK, libc::DT_SOCK, FileType::Socket),
            (libc::S_IFCHR, libc::DT_CHR, FileType::CharDevice),
            (libc::S_IFBLK, libc::DT_BLK, FileType::BlockDevice),
            (0, libc::DT_UNKNOWN, FileType::Unknown),
            (0, 14, FileType::Unknown),
        ];
        for (mode, d_type, expected) in kinds {
            assert_eq!(FileType::from_mode(mode | 0o7777), expected, "mode {mode:o}");
            assert_eq!(FileType::from_d_type(d_type), expected, "d_type {d_type}");
        }
    }
}
