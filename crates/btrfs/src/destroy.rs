//! Deleting trees in which there are subvolumes.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use graphdriver_archive::{RootDir, remove_at};
use graphdriver_core::{Error, Result};
use graphdriver_sys::FileType;
use graphdriver_sys::btrfs::qgroup;
use graphdriver_sys::btrfs::subvolume::{self, SubvolumeFlags};
use graphdriver_sys::dents::{Buffer, Dents};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

/// How many subvolumes inside of each other are destroyed as such. Each takes a descriptor on the way down; what is deeper is emptied file by file.
const MAX_DEPTH: usize = 32;

/// Removes `name` in `dir` and all below it: files, directories and subvolumes, read-only ones too. Missing is fine.
///
/// Goes by descriptors and follows no link. A subvolume that is `name`, or is directly in it, is destroyed without a look at its files.
///
/// # Errors
/// The first failure; what was removed until then stays removed.
pub(crate) fn remove_tree(dir: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<()> {
    let Some(tree) = open(dir, name, path)? else { return Ok(remove_at(dir, name, path)?) };
    if is_subvolume(&tree)? {
        return destroy(dir, name, &tree, MAX_DEPTH);
    }
    for inner in directories(&tree)? {
        let path = path.join(&inner);
        if let Some(subvolume) = open(tree.as_fd(), &inner, &path)?
            && is_subvolume(&subvolume)?
        {
            destroy(tree.as_fd(), &inner, &subvolume, MAX_DEPTH)?;
        }
    }
    Ok(remove_at(dir, name, path)?)
}

/// Destroys the subvolume `root`, which is `name` in `dir`, after all inside of it.
fn destroy(dir: BorrowedFd<'_>, name: &OsStr, root: &RootDir, depth: usize) -> Result<()> {
    let path = root.path();
    let failed = |call| move |errno| Error::syscall(call, path, errno);
    let id = subvolume::info(root).map_err(failed("look at subvolume"))?.id;
    if !destroy_children(root, depth)? {
        return Ok(remove_at(dir, name, path)?);
    }
    match subvolume::destroy(dir, name) {
        Ok(()) => forget_group(dir, id),
        Err(Errno::ENOENT) => {}
        // Ordinary users may delete what is in it, and it once it is empty; and who still has a directory in it open can make another one inside.
        Err(Errno::EPERM | Errno::EACCES | Errno::ENOTEMPTY) => remove_at(dir, name, path)?,
        Err(errno) => return Err(failed("destroy subvolume")(errno)),
    }
    Ok(())
}

/// Destroys the subvolumes inside of `root`; whether it got to all of them.
fn destroy_children(root: &RootDir, depth: usize) -> Result<bool> {
    let failed = |call| move |errno| Error::syscall(call, root.path(), errno);
    let children = subvolume::children(root).map_err(failed("list subvolumes"))?;
    if children.is_empty() {
        return Ok(true);
    }
    // Nothing can be taken out of a read-only one.
    let flags = subvolume::flags(root).map_err(failed("get flags of subvolume"))?;
    if flags.contains(SubvolumeFlags::READ_ONLY) {
        subvolume::set_flags(root, flags - SubvolumeFlags::READ_ONLY)
            .map_err(failed("set flags of subvolume"))?;
    }
    let Some(depth) = depth.checked_sub(1) else { return Ok(false) };
    let mut complete = true;
    for child in children {
        let path = match subvolume::child_path(root, child) {
            Ok(path) => path,
            Err(Errno::ENOENT) => continue,
            // Deeper than the answer is long, or not for us to see.
            Err(Errno::ENAMETOOLONG | Errno::EACCES) => {
                complete = false;
                continue;
            }
            Err(errno) => return Err(failed("find subvolume")(errno)),
        };
        // Should somebody who still has the tree open put a link in the way, it leads to another place of the same tree.
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { continue };
        let above = root.subdir(above)?;
        if let Some(inner) = open(above.as_fd(), name, &root.path().join(&path))? {
            destroy(above.as_fd(), name, &inner, depth)?;
        }
    }
    Ok(complete)
}

/// Deletes the counters of a subvolume that is gone. Newer kernels do so by themselves, and refuse.
fn forget_group(file: BorrowedFd<'_>, id: u64) {
    if let Err(errno) = qgroup::delete(file, id) {
        tracing::trace!(id, %errno, "the quota group of a destroyed subvolume is left to the kernel");
    }
}

/// Opens the directory `name`; `None` when it is missing, no directory, or not to be read.
fn open(dir: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<Option<RootDir>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(dir, name, flags, Mode::empty()) {
        Ok(fd) => Ok(Some(RootDir::from_fd(fd, path))),
        // An owner may have closed it to himself, which root does not notice.
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EACCES) => Ok(None),
        Err(errno) => Err(Error::syscall("openat", path, errno)),
    }
}

fn is_subvolume(dir: &RootDir) -> Result<bool> {
    subvolume::is_subvolume(dir).map_err(|errno| Error::syscall("fstatfs", dir.path(), errno))
}

/// The names of the directories in `dir`.
fn directories(dir: &RootDir) -> Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    let mut buffer = Buffer::new();
    let mut entries = Dents::new(dir, &mut buffer);
    while let Some(entry) =
        entries.next_entry().map_err(|errno| Error::syscall("getdents64", dir.path(), errno))?
    {
        if entry.file_type == FileType::Directory {
            names.push(entry.os_name().to_owned());
        }
    }
    Ok(names)
}
