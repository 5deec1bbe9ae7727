//! Small files that describe layers, written so that a crash leaves the old contents or the new, never a part.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};

use crate::error::{Error, Result};
use crate::random_name::random_name;

/// Gives the file `name` in `dir` these contents and exactly this mode, whether it exists or not.
///
/// The contents go to a file under another name, which is flushed and takes the place of `name`, and the directory is flushed: when this returns, the contents survive a power
/// cut, and at every moment `name` has either its old or its new contents.
///
/// # Errors
/// `NoSpace`, `PermissionDenied`, `Io`; the old contents remain. The path in the error is `name`.
pub fn write_atomic(dir: impl AsFd, name: impl AsRef<OsStr>, contents: &[u8], mode: u32) -> Result<()> {
    let (dir, name) = (dir.as_fd(), name.as_ref());
    let mut temporary = OsString::from(".");
    temporary.push(random_name());
    temporary.push(".tmp");
    write_new(dir, &temporary, contents, mode).map_err(|error| error.path(name))?;
    let renamed =
        renameat(dir, &*temporary, dir, name).map_err(|errno| Error::syscall("renameat", name, errno));
    if renamed.is_err() {
        remove_quietly(dir, &temporary);
    }
    renamed?;
    sync_dir(dir).map_err(|error| error.path(name))
}

/// Makes the file `name` in `dir`, which must not exist, with these contents and exactly this mode, and flushes it, but not the directory.
///
/// For directories that get their place later: fill one, [flush it](sync_dir) once, and rename it.
///
/// # Errors
/// `Io` with `EEXIST`; `NoSpace`, `PermissionDenied`, `Io`; then the file is not there. The path in the error is `name`.
pub fn write_new(dir: impl AsFd, name: impl AsRef<OsStr>, contents: &[u8], mode: u32) -> Result<()> {
    let (dir, name) = (dir.as_fd(), name.as_ref());
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let fd = openat(dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
        .map_err(|errno| Error::syscall("openat", name, errno))?;
    let filled = fill(fd, name, contents, mode);
    if filled.is_err() {
        remove_quietly(dir, name);
    }
    filled
}

/// Flushes the names in the directory `dir`; it may be open with `O_PATH`.
///
/// # Errors
/// `NoSpace`, `Io`; the error has no path.
pub fn sync_dir(dir: impl AsFd) -> Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let readable = openat(dir, ".", flags, Mode::empty()).map_err(|errno| Error::call("openat", errno))?;
    match fsync(&readable) {
        // Some file systems (of programs, of other machines) have nothing to flush in a directory and say so.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => Ok(()),
        Err(errno) => Err(Error::call("fsync", errno)),
    }
}

fn fill(fd: OwnedFd, name: &OsStr, contents: &[u8], mode: u32) -> Result<()> {
    // By descriptor, because the process's umask takes bits from the mode of `open`.
    let mode = Mode::from_bits_truncate(mode);
    fchmod(&fd, mode).map_err(|errno| Error::syscall("fchmod", name, errno))?;
    let mut file = File::from(fd);
    file.write_all(contents).map_err(|error| Error::io("write", Path::new(name), error))?;
    fsync(&file).map_err(|errno| Error::syscall("fsync", name, errno))
}

fn remove_quietly(dir: BorrowedFd<'_>, name: &OsStr) {
    if let Err(errno) = unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        tracing::warn!(?name, %errno, "a temporary file stays");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use nix::fcntl::open;

    use super::*;
    use crate::error::ErrorKind;

    fn names(dir: &Path) -> Vec<OsString> {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn new_and_old_files_get_contents_and_mode() {
        let temp = tempfile::tempdir().unwrap();
        let dir = File::open(temp.path()).unwrap();
        let link = temp.path().join("link");
        for (contents, mode) in [(&b"ABC"[..], 0o644), (b"", 0o600), (&vec![b'x'; 100_000], 0o666)] {
            write_atomic(&dir, "link", contents, mode).unwrap();
            assert_eq!(fs::read(&link).unwrap(), contents);
            assert_eq!(fs::metadata(&link).unwrap().permissions().mode() & 0o7777, mode);
            assert_eq!(names(temp.path()), ["link"]);
        }
    }

    #[test]
    fn a_symbolic_link_is_replaced_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        let dir = File::open(temp.path()).unwrap();
        fs::write(temp.path().join("target"), b"old").unwrap();
        symlink("target", temp.path().join("link")).unwrap();
        write_atomic(&dir, "link", b"new", 0o644).unwrap();
        assert_eq!(fs::read(temp.path().join("target")).unwrap(), b"old");
        assert!(temp.path().join("link").symlink_metadata().unwrap().is_file());
    }

    #[test]
    fn a_failure_leaves_what_was_there() {
        let temp = tempfile::tempdir().unwrap();
        let dir = File::open(temp.path()).unwrap();
        fs::create_dir_all(temp.path().join("taken/child")).unwrap();
        let error = write_atomic(&dir, "taken", b"x", 0o644).unwrap_err();
        assert_eq!(error.failed_path(), Some(Path::new("taken")));
        assert!(error.report().to_string().starts_with("renameat \"taken\": "), "{}", error.report());
        assert_eq!(names(temp.path()), ["taken"]);

        fs::write(temp.path().join("file"), b"old").unwrap();
        let error = write_new(&dir, "file", b"new", 0o644).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(fs::read(temp.path().join("file")).unwrap(), b"old");
    }

    #[test]
    fn a_directory_open_by_path_only_will_do() {
        let temp = tempfile::tempdir().unwrap();
        let dir = open(temp.path(), OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        write_new(&dir, "new", b"1", 0o640).unwrap();
        sync_dir(&dir).unwrap();
        assert_eq!(fs::read(temp.path().join("new")).unwrap(), b"1");
    }
}
