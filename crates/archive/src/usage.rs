//! What a tree occupies.

use std::collections::HashSet;
use std::ffi::CString;

use graphdriver_sys::FileType;
use graphdriver_sys::dents::Buffer;
use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::root::RootDir;
use crate::walk::{DirStack, Listing, as_path, lstat_at, open_dir_at, push_name};

/// Size of a tree: apparent sizes of its files, and how many inodes they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Sum of the apparent sizes of all that is not a directory, in bytes; each inode once.
    #[doc(alias = "Size")]
    pub bytes: u64,
    /// Inodes, directories and the root included.
    #[doc(alias = "InodeCount")]
    pub inodes: u64,
}

/// Counts what is in `root`. What vanishes meanwhile is not counted.
///
/// # Errors
/// The kind of the failed system call, with the path inside the root.
#[doc(alias = "Usage")]
#[doc(alias = "directory.Usage")]
pub fn disk_usage(root: &RootDir) -> Result<DiskUsage> {
    let top = open_dir_at(root, ".").map_err(|errno| Error::syscall("openat", root.path(), errno))?;
    let mut count =
        Count { usage: DiskUsage { bytes: 0, inodes: 1 }, linked: HashSet::new(), buffer: Buffer::new() };
    let mut dirs = DirStack::new(top);
    let mut path = Vec::new();
    let mut levels = vec![(0, count.entries(&dirs, &path)?)];
    while let Some((above_bytes, pending)) = levels.last_mut() {
        let failed = |errno| Error::syscall("openat", as_path(&path), errno);
        let Some(name) = pending.pop() else {
            dirs.pop().map_err(failed)?;
            path.truncate(*above_bytes);
            levels.pop();
            continue;
        };
        match open_dir_at(dirs.current(), name.as_c_str()) {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => continue,
            opened => dirs.push(opened.map_err(failed)?).map_err(failed)?,
        }
        let above_bytes = path.len();
        push_name(&mut path, &name);
        levels.push((above_bytes, count.entries(&dirs, &path)?));
    }
    Ok(count.usage)
}

struct Count {
    usage: DiskUsage,
    /// Inodes with several names that were met.
    linked: HashSet<(u64, u64)>,
    buffer: Buffer,
}

impl Count {
    /// Counts the entries of the current directory; returns the directories among them.
    fn entries(&mut self, dirs: &DirStack, path: &[u8]) -> Result<Vec<CString>> {
        let dir = dirs.current();
        let listing = Listing::read(dir, &mut self.buffer)
            .map_err(|errno| Error::syscall("getdents64", as_path(path), errno))?;
        let mut directories = Vec::new();
        for name in (0..listing.len()).filter_map(|index| listing.name(index)) {
            let stat = match lstat_at(dir, name) {
                Err(Errno::ENOENT) => continue,
                stat => stat.map_err(|errno| Error::syscall("fstatat", as_path(path), errno))?,
            };
            if FileType::from_mode(stat.st_mode).is_dir() {
                self.usage.inodes += 1;
                directories.push(name.to_owned());
            } else if stat.st_nlink < 2 || self.linked.insert((stat.st_dev, stat.st_ino)) {
                self.usage.inodes += 1;
                self.usage.bytes = self.usage.bytes.saturating_add(u64::try_from(stat.st_size).unwrap_or(0));
            }
        }
        Ok(directories)
    }
}
