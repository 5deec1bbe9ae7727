//! Lock files that their last holder unlinks.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{fstat, fstatat};

/// Whether the open `file` still is what `name` in `dir` names.
///
/// To be asked after a lock was taken: while one waited for it, the holder before may have unlinked the file, and the lock that one has then
/// is of a file that nobody else will ever find.
pub(crate) fn is_current(dir: BorrowedFd<'_>, name: &OsStr, file: impl AsFd) -> nix::Result<bool> {
    let open = fstat(file)?;
    match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(named) => Ok((named.st_dev, named.st_ino) == (open.st_dev, open.st_ino)),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    #[test]
    fn notices_unlinked_and_replaced_files() {
        let temp = tempfile::tempdir().unwrap();
        let dir = File::open(temp.path()).unwrap();
        let path = temp.path().join("lock");
        let asked = |file| is_current(dir.as_fd(), "lock".as_ref(), file).unwrap();
        let first = File::create_new(&path).unwrap();
        assert!(asked(&first));
        fs::remove_file(&path).unwrap();
        assert!(!asked(&first));
        let second = File::create_new(&path).unwrap();
        assert!(!asked(&first) && asked(&second));
    }
}
