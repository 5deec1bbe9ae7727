//! Removing a tree by descriptors.
//!
//! Only the directory being emptied is held open, so that the depth of a tree costs memory, not descriptors. The way back up is
//! `..`, checked against the device and inode number that the way down went through.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use graphdriver_sys::FileType;
use graphdriver_sys::dents::{Buffer, Dents};
use graphdriver_sys::mount_point::mount_id;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, fchmod, fchmodat, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::error::{Error, Result};

/// Removes `name` in `dir`, whatever it is; missing is fine.
pub(super) fn remove_at(dir: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<()> {
    match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(Errno::EISDIR) => {
            let Some(child) =
                open_child(dir, name).map_err(|errno| Error::syscall("openat2", path, errno))?
            else {
                return Ok(());
            };
            open_up(&child);
            empty(child, path)?;
            remove_emptied(dir, name, path)
        }
        Err(errno) => Err(Error::syscall("unlinkat", path, errno)),
    }
}

/// Removes everything in `dir`.
pub(super) fn remove_contents(dir: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let own = openat(dir, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| Error::syscall("openat", path, errno))?;
    empty(own, path)
}

/// A directory on the way down.
struct Level {
    /// Its name in the directory above.
    name: OsString,
    /// The directories in it that are still to be emptied.
    pending: Vec<OsString>,
    identity: (u64, u64),
}

fn empty(top: OwnedFd, path: &Path) -> Result<()> {
    let mut current = top;
    let mut full = path.to_owned();
    let mut levels = vec![enter(&current, OsString::new(), &full)?];
    loop {
        let Some(level) = levels.last_mut() else { return Ok(()) };
        if let Some(name) = level.pending.pop() {
            full.push(&name);
            match open_child(current.as_fd(), &name)
                .map_err(|errno| Error::syscall("openat2", &full, errno))?
            {
                Some(child) => {
                    open_up(&child);
                    levels.push(enter(&child, name, &full)?);
                    current = child;
                }
                None => drop(full.pop()),
            }
            continue;
        }
        let Some(done) = levels.pop() else { return Ok(()) };
        let Some(above) = levels.last() else { return Ok(()) };
        current = climb(&current, above.identity, &full)?;
        remove_emptied(current.as_fd(), &done.name, &full)?;
        full.pop();
    }
}

/// Unlinks all that is not a directory in `dir` and notes the directories.
fn enter(dir: &OwnedFd, name: OsString, path: &Path) -> Result<Level> {
    let stat = fstat(dir).map_err(|errno| Error::syscall("fstat", path, errno))?;
    let mut pending = Vec::new();
    let mut buffer = Buffer::new();
    let mut entries = Dents::new(dir, &mut buffer);
    while let Some(entry) = entries.next_entry().map_err(|errno| Error::syscall("getdents64", path, errno))? {
        let name = entry.os_name();
        if entry.file_type == FileType::Directory {
            pending.push(name.to_owned());
            continue;
        }
        match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(Errno::EISDIR) => pending.push(name.to_owned()),
            Err(errno) => return Err(Error::syscall("unlinkat", path.join(name), errno)),
        }
    }
    Ok(Level { name, pending, identity: (stat.st_dev, stat.st_ino) })
}

/// Lets the owner read, search and write a directory that is about to be removed; he may have closed it to himself.
fn open_up(dir: &OwnedFd) {
    // Where this fails, what is done next in the directory fails too, and says why.
    let is_closed = |stat: FileStat| Mode::from_bits_truncate(stat.st_mode) & Mode::S_IRWXU != Mode::S_IRWXU;
    if fstat(dir).is_ok_and(is_closed) {
        let _ = fchmod(dir, Mode::S_IRWXU);
    }
}

/// Opens the directory `name` in `dir`; `None` when it is gone. `EBUSY` when something is mounted there.
fn open_child(dir: BorrowedFd<'_>, name: &OsStr) -> nix::Result<Option<OwnedFd>> {
    let opened = match open_same_mount(dir, name) {
        // An owner may close a directory to himself; root never gets here.
        Err(Errno::EACCES) => {
            make_accessible(dir, name)?;
            open_same_mount(dir, name)
        }
        result => result,
    };
    match opened {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ENOENT) => Ok(None),
        Err(Errno::EXDEV) => Err(Errno::EBUSY),
        Err(errno) => Err(errno),
    }
}

/// Through a descriptor, so that a symbolic link that takes the directory's place meanwhile is not followed.
fn make_accessible(dir: BorrowedFd<'_>, name: &OsStr) -> nix::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let child = openat(dir, name, flags, Mode::empty())?;
    let path = format!("/proc/thread-self/fd/{}", child.as_raw_fd());
    fchmodat(AT_FDCWD, path.as_str(), Mode::S_IRWXU, FchmodatFlags::FollowSymlink)
}

fn open_same_mount(dir: BorrowedFd<'_>, name: &OsStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let how =
        OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS);
    match openat2(dir, name, how) {
        // Before Linux 5.6, or where a seccomp filter refuses the call: the mount is told by its device, so a bind mount of the same file system is not noticed.
        Err(Errno::ENOSYS | Errno::EPERM) => {
            let child = openat(dir, name, flags, Mode::empty())?;
            // A subvolume of btrfs has a device number of its own, and is not mounted for that.
            let same_device = fstat(&child)?.st_dev == fstat(dir)?.st_dev;
            let same_mount = || Some(mount_id(&child).ok()? == mount_id(dir).ok()?);
            if same_device || same_mount() == Some(true) { Ok(child) } else { Err(Errno::EXDEV) }
        }
        result => result,
    }
}

fn climb(from: &OwnedFd, expected: (u64, u64), path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let above =
        openat(from, "..", flags, Mode::empty()).map_err(|errno| Error::syscall("openat", path, errno))?;
    let stat = fstat(&above).map_err(|errno| Error::syscall("fstat", path, errno))?;
    if (stat.st_dev, stat.st_ino) == expected {
        return Ok(above);
    }
    Err(Error::syscall("remove", path, Errno::ESTALE)
        .detail("another process moved the directory while it was being removed"))
}

fn remove_emptied(dir: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<()> {
    match unlinkat(dir, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(Error::syscall("rmdir", path, errno)),
    }
}
