//! Whether two files are the same.

use std::ffi::{CStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use graphdriver_sys::FileType;
use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::stat::FileStat;

use super::blocks;
use super::options::{CompareOptions, ContentCheck};
use crate::error::{Error, Result};
use crate::id_map::{IdMaps, Owner};
use crate::walk::{as_path, open_file_at};
use crate::xattrs::{self, IdTranslation, Xattr};

/// File systems stamp `ctime` with a clock that moves in steps of up to 10 ms (`CONFIG_HZ=100`), so it may lie that much before the truth.
const CLOCK_STEP: Duration = Duration::from_millis(20);

const BLOCK_BYTES: usize = 128 * 1024;

/// One of the two files.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) dir: BorrowedFd<'a>,
    pub(super) name: &'a CStr,
    pub(super) stat: &'a FileStat,
}

/// Compares files as the options say. One per thread: it holds buffers.
pub(super) struct Comparison<'a> {
    options: &'a CompareOptions,
    /// Seconds and nanoseconds before which both inodes must have changed last for the newer file to be known for the copy it was made as.
    copied_before: Option<(i64, i64)>,
    /// One for each file, made when the first contents are compared.
    blocks: [Vec<u8>; 2],
}

impl<'a> Comparison<'a> {
    pub(super) fn new(options: &'a CompareOptions) -> Self {
        let copied_before = match options.content {
            ContentCheck::CopiedAt(moment) => moment.checked_sub(CLOCK_STEP).map(seconds_and_nanoseconds),
            ContentCheck::Metadata | ContentCheck::Content | ContentCheck::Blocks => None,
        };
        Self { options, copied_before, blocks: [Vec::new(), Vec::new()] }
    }

    /// Whether the files differ in kind, metadata or contents. Errors carry the entry's name only.
    pub(super) fn differ(&mut self, new: Side<'_>, old: Side<'_>) -> Result<bool> {
        let file_type = FileType::from_mode(new.stat.st_mode);
        if self.is_same_inode(new.stat, old.stat) && !file_type.is_dir() {
            return Ok(false);
        }
        if self.stats_differ(new.stat, old.stat) {
            return Ok(true);
        }
        if self
            .copied_before
            .is_some_and(|moment| [new, old].iter().all(|side| changed_before(side.stat, moment)))
        {
            return Ok(false);
        }
        if xattrs_of(new, &self.options.new_id_maps)? != xattrs_of(old, &self.options.old_id_maps)? {
            return Ok(true);
        }
        match file_type {
            FileType::Symlink => Ok(target(new)? != target(old)?),
            FileType::Regular if self.options.content != ContentCheck::Metadata => {
                self.contents_differ(new, old)
            }
            _ => Ok(false),
        }
    }

    /// Two names of one file, which nothing but its owner's maps can make differ. The change time guards against devices whose numbers mean nothing.
    fn is_same_inode(&self, new: &FileStat, old: &FileStat) -> bool {
        let identity = |stat: &FileStat| (stat.st_dev, stat.st_ino, stat.st_ctime, stat.st_ctime_nsec);
        identity(new) == identity(old) && self.options.new_id_maps == self.options.old_id_maps
    }

    fn stats_differ(&self, new: &FileStat, old: &FileStat) -> bool {
        let file_type = FileType::from_mode(new.st_mode);
        let is_device = matches!(file_type, FileType::CharDevice | FileType::BlockDevice);
        new.st_mode != old.st_mode
            || (new.st_mtime, new.st_mtime_nsec) != (old.st_mtime, old.st_mtime_nsec)
            || (!file_type.is_dir() && new.st_size != old.st_size)
            || (is_device && new.st_rdev != old.st_rdev)
            || self.owners_differ(new, old)
    }

    fn owners_differ(&self, new: &FileStat, old: &FileStat) -> bool {
        let owner = |stat: &FileStat| Owner { uid: stat.st_uid, gid: stat.st_gid };
        let mapped = (
            self.options.new_id_maps.to_container(owner(new)),
            self.options.old_id_maps.to_container(owner(old)),
        );
        match mapped {
            (Some(new), Some(old)) => new != old,
            _ => owner(new) != owner(old),
        }
    }

    fn contents_differ(&mut self, new: Side<'_>, old: Side<'_>) -> Result<bool> {
        if new.stat.st_size == 0 {
            return Ok(false);
        }
        let open = |side: Side<'_>| {
            open_file_at(side.dir, side.name).map(File::from).map_err(|errno| failed("openat", side, errno))
        };
        let (mut new_file, mut old_file) = (open(new)?, open(old)?);
        if self.options.content == ContentCheck::Blocks
            && blocks::are_same(&new_file, &old_file, u64::try_from(new.stat.st_size).unwrap_or(0))
        {
            return Ok(false);
        }
        let [new_block, old_block] = &mut self.blocks;
        new_block.resize(BLOCK_BYTES, 0);
        old_block.resize(BLOCK_BYTES, 0);
        let io_failed = |error| Error::io("read", error).path(as_path(new.name.to_bytes()));
        loop {
            let new_bytes = fill(&mut new_file, new_block).map_err(io_failed)?;
            let old_bytes = fill(&mut old_file, old_block).map_err(io_failed)?;
            if new_block[..new_bytes] != old_block[..old_bytes] {
                return Ok(true);
            }
            if new_bytes < BLOCK_BYTES {
                return Ok(false);
            }
        }
    }
}

fn changed_before(stat: &FileStat, moment: (i64, i64)) -> bool {
    (stat.st_ctime, stat.st_ctime_nsec) < moment
}

fn seconds_and_nanoseconds(moment: SystemTime) -> (i64, i64) {
    let parts = |duration: Duration| {
        (i64::try_from(duration.as_secs()).unwrap_or(i64::MAX), i64::from(duration.subsec_nanos()))
    };
    match moment.duration_since(UNIX_EPOCH) {
        Ok(after) => parts(after),
        Err(error) => match parts(error.duration()) {
            (seconds, 0) => (-seconds, 0),
            (seconds, nanoseconds) => (-seconds - 1, 1_000_000_000 - nanoseconds),
        },
    }
}

/// The portable attributes, with the container's ids in them where those can be told.
fn xattrs_of(side: Side<'_>, maps: &IdMaps) -> Result<Vec<Xattr>> {
    let mut found =
        xattrs::of_entry(side.dir, side.name).map_err(|errno| failed("lgetxattr", side, errno))?;
    if !maps.is_identity() {
        let ids =
            IdTranslation { uid: &|id| maps.uid_to_container(id), gid: &|id| maps.gid_to_container(id) };
        for xattr in &mut found {
            if let Some(translated) = xattr.clone().translate(&ids) {
                *xattr = translated;
            }
        }
    }
    Ok(found)
}

fn target(side: Side<'_>) -> Result<OsString> {
    readlinkat(side.dir, side.name).map_err(|errno| failed("readlinkat", side, errno))
}

fn failed(operation: &'static str, side: Side<'_>, errno: Errno) -> Error {
    Error::syscall(operation, as_path(side.name.to_bytes()), errno)
}

/// Reads until `block` is full or the file ends.
fn fill(file: &mut File, block: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < block.len() {
        match file.read(&mut block[filled..]) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_before_1970_count_forward_too() {
        for (moment, expected) in [
            (UNIX_EPOCH + Duration::new(5, 7), (5, 7)),
            (UNIX_EPOCH - Duration::new(5, 0), (-5, 0)),
            (UNIX_EPOCH - Duration::new(5, 1), (-6, 999_999_999)),
        ] {
            assert_eq!(seconds_and_nanoseconds(moment), expected);
        }
    }
}
