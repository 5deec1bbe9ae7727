//! When and where a record was put beside its layer.
//!
//! The record's time of last writing (`st_mtime`) is the moment up to which the layer is known. Not `st_ctime`: a change of the mode, owner or label of
//! everything in a home would move it behind changes of the layer. A copy keeps the former or not, so the two inodes are noted, too: of a copy nothing is known by its time.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

use graphdriver_sys::{StatxMask, statx};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, fstat};
use sha2::{Digest, Sha256};

use super::note;
use crate::error::{Error, Result};
use crate::root::RootDir;

/// Tries to get a later time, and how long it takes from one to the next: ten ticks of the slowest clock that kernels are built with (100 Hz).
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// A point in time: seconds and nanoseconds.
pub(super) type Moment = (i64, i64);

/// Notes in `record` that the layer in `root` is, up to now, what its archive made.
///
/// `record` is one that [`apply_recorded`](crate::apply_recorded) wrote, at its place or to be renamed to it; `root` is the layer's directory, which may be moved
/// without being renamed itself. May be done again. Before Linux 6.13, where file systems have the time of the last timer tick, this waits for the next.
///
/// # Errors
/// The kind of the failed system call.
pub fn seal(record: &File, root: &RootDir) -> Result<()> {
    let failed = |error| Error::io("write tar-split record", error);
    let origin = origin(record, root)?;
    let earlier = written(record)?.max(changed(&stat_of(root)?));
    for _ in 0..TRIES {
        record.write_all_at(&origin, note::ORIGIN_OFFSET).map_err(failed)?;
        // Asking has a purpose besides the answer: the next change gets a finer time then (Linux 6.13).
        if written(record)? > earlier {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
    tracing::debug!(layer = ?root.path(), "the clock stands still: the layer will be compared with its archive");
    Ok(())
}

/// Which two inodes these are, as far as the kernel can tell.
pub(super) fn origin(record: &File, root: &RootDir) -> Result<[u8; note::ORIGIN_BYTES]> {
    let mut hash = Sha256::new();
    for fd in [record.as_fd(), root.as_fd()] {
        let mask = StatxMask::INO | StatxMask::BTIME;
        let (ino, born) = match statx(fd, c"", AtFlags::AT_EMPTY_PATH, mask) {
            Ok(known) => (known.ino, known.btime.unwrap_or_default()),
            Err(Errno::ENOSYS | Errno::EPERM) => (stat_of(fd)?.st_ino, (0, 0)),
            Err(errno) => return Err(Error::syscall("statx", root.path(), errno)),
        };
        hash.update(ino.to_le_bytes());
        hash.update(born.0.to_le_bytes());
        hash.update(born.1.to_le_bytes());
    }
    Ok(hash.finalize().into())
}

/// Up to when the layer of `record` is known, if the record is where it was put.
pub(super) fn written(record: &File) -> Result<Moment> {
    let stat = stat_of(record)?;
    // The former can be set to anything, also by mistake.
    Ok((stat.st_mtime, stat.st_mtime_nsec).min(changed(&stat)))
}

/// When the inode was last changed.
pub(super) fn changed(stat: &FileStat) -> Moment {
    (stat.st_ctime, stat.st_ctime_nsec)
}

fn stat_of(fd: impl AsFd) -> Result<FileStat> {
    fstat(fd).map_err(|errno| Error::syscall("fstat", "", errno))
}
