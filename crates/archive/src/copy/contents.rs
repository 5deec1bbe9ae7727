//! What is in a file, copied by the cheapest way that works.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use graphdriver_sys::clone_file;
use nix::errno::Errno;
use nix::fcntl::copy_file_range;
use nix::sys::stat::FileStat;
use nix::unistd::{Whence, ftruncate, lseek};

use super::CopyMethod;
use crate::error::{Error, Result};

const BUFFER_BYTES: usize = 256 * 1024;

/// The ways that still seem to work. A file system that cannot do it once cannot do it for the next file either.
pub(super) struct Contents {
    by_clone: AtomicBool,
    by_range: AtomicBool,
}

impl Contents {
    pub(super) fn new(method: CopyMethod) -> Self {
        Self {
            by_clone: AtomicBool::new(method == CopyMethod::Auto),
            by_range: AtomicBool::new(method != CopyMethod::Plain),
        }
    }

    /// Fills the empty file `to` with the contents of `from`.
    pub(super) fn copy(&self, from: &File, to: &File, stat: &FileStat) -> Result<()> {
        let bytes = u64::try_from(stat.st_size).unwrap_or(0);
        if bytes == 0 || self.clone(from, to)? {
            return Ok(());
        }
        if stat.st_blocks.saturating_mul(512) >= stat.st_size {
            return self.copy_part(from, to, 0, bytes);
        }
        self.copy_data(from, to)?;
        // The hole at the end, if there is one, is made by the length alone.
        ftruncate(to, stat.st_size).map_err(|errno| failed("ftruncate", errno))
    }

    /// Copies the parts that are not holes (`lseek(2)`, `SEEK_DATA`). A file system that does not know holes says that all is data.
    fn copy_data(&self, from: &File, to: &File) -> Result<()> {
        let mut at = 0;
        loop {
            let part = lseek(from, at, Whence::SeekData)
                .and_then(|start| Ok((start, lseek(from, start, Whence::SeekHole)?)));
            let (start, end) = match part {
                // Only a hole is left, or nothing.
                Err(Errno::ENXIO) => return Ok(()),
                part => part.map_err(|errno| failed("lseek", errno))?,
            };
            self.copy_part(from, to, u64::try_from(start).unwrap_or(0), u64::try_from(end).unwrap_or(0))?;
            at = end;
        }
    }

    /// Whether the files share their blocks now.
    fn clone(&self, from: &File, to: &File) -> Result<bool> {
        if !self.by_clone.load(Ordering::Relaxed) {
            return Ok(false);
        }
        match clone_file(to, from) {
            Ok(()) => Ok(true),
            Err(Errno::EOPNOTSUPP | Errno::ENOTTY | Errno::EXDEV | Errno::ENOSYS) => {
                self.by_clone.store(false, Ordering::Relaxed);
                Ok(false)
            }
            // Files that may not share (not both copy-on-write), or not now.
            Err(Errno::EINVAL | Errno::ETXTBSY) => Ok(false),
            Err(errno) => Err(failed("FICLONE", errno)),
        }
    }

    /// Copies the bytes from `start` to `end`, or to where the file ends by now.
    fn copy_part(&self, from: &File, to: &File, start: u64, end: u64) -> Result<()> {
        let mut at = start;
        // A small file is copied by two calls either way, and the plain ones are cheaper.
        if self.by_range.load(Ordering::Relaxed) && end - start > BUFFER_BYTES as u64 {
            at = self.copy_range(from, to, start, end)?;
        }
        if at < end { copy_plainly(from, to, at, end) } else { Ok(()) }
    }

    /// Returns how far it came.
    fn copy_range(&self, from: &File, to: &File, start: u64, end: u64) -> Result<u64> {
        let offset = |at: u64| i64::try_from(at).unwrap_or(i64::MAX);
        let mut at = start;
        while at < end {
            let (mut from_at, mut to_at) = (offset(at), offset(at));
            let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(1 << 30);
            match copy_file_range(from, Some(&mut from_at), to, Some(&mut to_at), wanted) {
                // The end of the file, or, on some file systems, nothing that can be copied so: reading tells.
                Ok(0) => break,
                Ok(bytes) => at += bytes as u64,
                Err(Errno::EINTR) => {}
                Err(Errno::EXDEV | Errno::ENOSYS | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::EPERM) => {
                    self.by_range.store(false, Ordering::Relaxed);
                    break;
                }
                Err(errno) => return Err(failed("copy_file_range", errno)),
            }
        }
        Ok(at)
    }
}

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn copy_plainly(from: &File, to: &File, start: u64, end: u64) -> Result<()> {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(BUFFER_BYTES, 0);
        let mut at = start;
        while at < end {
            let wanted = usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
            match from.read_at(&mut buffer[..wanted], at) {
                Ok(0) => break,
                Ok(bytes) => {
                    to.write_all_at(&buffer[..bytes], at).map_err(|error| Error::io("write", error))?;
                    at += bytes as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read", error)),
            }
        }
        Ok(())
    })
}

fn failed(operation: &'static str, errno: Errno) -> Error {
    Error::syscall(operation, "", errno)
}
