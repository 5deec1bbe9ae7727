//! Whether something is mounted at a path.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::Mode;

use crate::{FileType, StatxMask, statx};

/// Whether `path` below `dir` is the root of a mount; with an empty path, whether `dir` itself is.
///
/// Bind mounts are found too, of files as well as of directories. A symbolic link at the end of the path is not followed,
/// and an automount is not triggered. The root directory is a mount point, unless the process was confined to a directory
/// that is none.
///
/// Linux 5.8 knows the answer ([statx(2)](https://man7.org/linux/man-pages/man2/statx.2.html)). Before, the ids of the mounts
/// that the path and its parent are on are compared, from `/proc/thread-self/fdinfo`; there, the root directory
/// always counts as a mount point, and a file needs a path to be asked about by.
///
/// # Errors
///
/// What `statx` or opening the path gives: `NotFound`, `PermissionDenied`, ... On kernels before 5.8 also
/// when `/proc` is not mounted.
#[doc(alias = "STATX_ATTR_MOUNT_ROOT")]
#[doc(alias = "mountpoint")]
pub fn is_mount_point(dir: impl AsFd, path: impl AsRef<Path>) -> io::Result<bool> {
    let (dir, path) = (dir.as_fd(), path.as_ref());
    let flags = AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_NO_AUTOMOUNT | AtFlags::AT_EMPTY_PATH;
    match statx(dir, path, flags, StatxMask::TYPE) {
        Ok(known) => match known.is_mount_root {
            Some(answer) => Ok(answer),
            None => by_mount_id(dir, path),
        },
        Err(Errno::ENOSYS) => by_mount_id(dir, path),
        Err(errno) => Err(errno.into()),
    }
}

/// The id of the mount that an open file of any kind is on, as in the first field of `/proc/self/mountinfo`.
///
/// From [statx(2)](https://man7.org/linux/man-pages/man2/statx.2.html) since Linux 5.8, otherwise from `fdinfo` as in
/// [proc_pid_fdinfo(5)](https://man7.org/linux/man-pages/man5/proc_pid_fdinfo.5.html).
///
/// # Errors
///
/// Before Linux 5.8, when `/proc` is not mounted.
#[doc(alias = "STATX_MNT_ID")]
pub fn mount_id(fd: impl AsFd) -> io::Result<u64> {
    let fd = fd.as_fd();
    match statx(fd, c"", AtFlags::AT_EMPTY_PATH, StatxMask::MNT_ID).map(|known| known.mnt_id) {
        Ok(Some(id)) => Ok(id),
        Ok(None) | Err(Errno::ENOSYS) => mount_id_from_fdinfo(fd),
        Err(errno) => Err(errno.into()),
    }
}

fn by_mount_id(dir: BorrowedFd<'_>, path: &Path) -> io::Result<bool> {
    let file = if path.as_os_str().is_empty() { dir.try_clone_to_owned()? } else { open_path(dir, path)? };
    let stat = nix::sys::stat::fstat(&file)?;
    let parent = if FileType::from_mode(stat.st_mode).is_dir() {
        open_path(file.as_fd(), Path::new(".."))?
    } else {
        // Only a directory leads to its parent; the parent of another file is on the way to it.
        match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => dir.try_clone_to_owned()?,
            Some(parent) => open_path(dir, parent)?,
            None => return Err(Errno::ENOTDIR.into()),
        }
    };
    if mount_id_from_fdinfo(file.as_fd())? != mount_id_from_fdinfo(parent.as_fd())? {
        return Ok(true);
    }
    let parent_stat = nix::sys::stat::fstat(&parent)?;
    Ok((stat.st_dev, stat.st_ino) == (parent_stat.st_dev, parent_stat.st_ino))
}

fn open_path(dir: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(dir, path, flags, Mode::empty())?)
}

fn mount_id_from_fdinfo(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/thread-self/fdinfo/{}", fd.as_raw_fd()))?;
    parse_fdinfo(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no mnt_id in fdinfo"))
}

fn parse_fdinfo(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::test_dir;

    #[test]
    fn fdinfo_texts() {
        let table = [
            ("pos:\t0\nflags:\t012000000\nmnt_id:\t25\nino:\t3\n", Some(25)),
            ("mnt_id:\t\n", None),
            ("mnt_id:\t-1\n", None),
            ("x mnt_id:\t25\n", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_fdinfo(text), expected, "{text:?}");
        }
    }

    /// Asks in both ways, which must agree; the first differs from the second on kernels before 5.8 only.
    fn ask(dir: &OwnedFd, path: &str) -> io::Result<bool> {
        let (answer, by_id) = (is_mount_point(dir, path)?, by_mount_id(dir.as_fd(), path.as_ref())?);
        assert_eq!(answer, by_id, "{path:?}");
        Ok(answer)
    }

    #[test]
    fn proc_is_one_and_what_is_in_it_is_not() {
        let root = test_dir::open("/".as_ref());
        assert!(ask(&root, "proc").unwrap());
        assert!(ask(&root, "/proc").unwrap());
        assert!(ask(&root, "/proc/").unwrap());
        assert!(ask(&test_dir::open("/proc".as_ref()), "").unwrap());
        assert!(!ask(&root, "proc/self/task").unwrap());
        assert!(!ask(&root, "proc/version").unwrap());
    }

    #[test]
    fn plain_directories_files_and_links_are_not() {
        let dir = test_dir::on_tmpfs();
        fs::create_dir(dir.path().join("directory")).unwrap();
        fs::write(dir.path().join("file"), b"").unwrap();
        symlink("/proc", dir.path().join("link")).unwrap();
        let fd = test_dir::open(dir.path());
        for path in ["", "directory", "file", "link", "directory/../file", "directory/.."] {
            assert!(!ask(&fd, path).unwrap(), "{path:?}");
        }
        assert_eq!(ask(&fd, "absent").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn ids_agree() {
        let dir = test_dir::on_disk();
        let fd = test_dir::open(dir.path());
        assert_eq!(mount_id(&fd).unwrap(), mount_id_from_fdinfo(fd.as_fd()).unwrap());
        let proc = test_dir::open("/proc".as_ref());
        assert_ne!(mount_id(&fd).unwrap(), mount_id(&proc).unwrap());
    }
}
