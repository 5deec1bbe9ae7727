//! The file by which processes tell each other who uses a mount.
//!
//! One file for each layer that is mounted. Locks on two of its bytes and its contents say:
//! - byte 0, locked exclusively: somebody is mounting, unmounting or removing;
//! - byte 1, locked shared: by each process that has references, so that those of a killed process vanish with it;
//! - contents: the number of persistent references, in decimal. Empty means that the file is new: whatever is mounted then is not from us.
//!   A second line says in which manner the layer is mounted, where that matters to those who want to share the mount.

use std::fs::{self, File};
use std::io::ErrorKind::NotFound;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use graphdriver_sys::ofd_lock::{self, LockKind};
use nix::fcntl::AT_FDCWD;
use nix::libc;

use crate::error::{Error, Result};
use crate::lock_file::{FileLock, is_current};

const TRANSITION: u64 = 0;
const HOLD: u64 = 1;

/// No record is longer: two id maps of as many lines as the kernel takes.
const MAX_BYTES: u64 = 64 * 1024;

/// The record of one layer, locked against transitions by others until dropped.
#[derive(Debug)]
pub(super) struct Record {
    path: PathBuf,
    transition: FileLock,
}

/// The sign that this process has references; ends when dropped.
#[derive(Debug)]
pub(super) struct Hold {
    lock: FileLock,
}

impl Record {
    /// Waits until nobody else has the record `path` locked; makes it if it is missing.
    pub(super) fn lock(path: PathBuf) -> Result<Self> {
        loop {
            let file = open(&path)?;
            let transition = FileLock::lock(file, TRANSITION, 1, LockKind::Exclusive)
                .map_err(|errno| Error::syscall("fcntl", &path, errno))?;
            let current = is_current(AT_FDCWD, path.as_os_str(), transition.file());
            if current.map_err(|errno| Error::syscall("fstatat", &path, errno))? {
                return Ok(Self { path, transition });
            }
            // Who had it before was the last user and unlinked it.
        }
    }

    /// The number of persistent references; `None` in a new record.
    pub(super) fn persistent(&self) -> Result<Option<u64>> {
        let text = self.read()?;
        let Some(line) = text.lines().next() else { return Ok(None) };
        Ok(Some(line.parse().unwrap_or_else(|_| {
            // Whoever wrote that, the mount may be in use.
            tracing::warn!(path = ?self.path, contents = %text, "odd record of a mount counts as one reference");
            1
        })))
    }

    /// Changes the number and leaves the manner.
    pub(super) fn set_persistent(&self, count: u64) -> Result<()> {
        let manner = self.manner()?;
        self.write(count, &manner)
    }

    /// How the layer is mounted; empty for the usual way.
    pub(super) fn manner(&self) -> Result<String> {
        Ok(self.read()?.lines().nth(1).unwrap_or_default().to_owned())
    }

    /// Writes number and manner, one line of text.
    pub(super) fn write(&self, count: u64, manner: &str) -> Result<()> {
        let end = if manner.is_empty() { "" } else { "\n" };
        let text = format!("{count}\n{manner}{end}");
        let failed = |error| Error::io("write", &self.path, error);
        // Not truncated first: a reader finds both lines at any moment, what follows is ignored.
        self.file().write_all_at(text.as_bytes(), 0).map_err(failed)?;
        self.file().set_len(text.len() as u64).map_err(failed)
    }

    fn read(&self) -> Result<String> {
        let failed = |error| Error::io("read", &self.path, error);
        let mut bytes = Vec::new();
        let mut file = self.file();
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(failed)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Whether a process has references. Only to be asked when this one has none.
    pub(super) fn is_held(&self) -> Result<bool> {
        let failed = |errno| Error::syscall("fcntl", &self.path, errno);
        let free = ofd_lock::try_lock(self.file(), HOLD, 1, LockKind::Exclusive).map_err(failed)?;
        if free {
            ofd_lock::unlock(self.file(), HOLD, 1).map_err(failed)?;
        }
        Ok(!free)
    }

    /// Says that this process has references, until the hold is dropped.
    pub(super) fn hold(&self) -> Result<Hold> {
        // The duplicate has the same open file description, hence the same locks, and outlives the record.
        let file = self.file().try_clone().map_err(|error| Error::io("dup", &self.path, error))?;
        let lock = FileLock::lock(file, HOLD, 1, LockKind::Shared);
        Ok(Hold { lock: lock.map_err(|errno| Error::syscall("fcntl", &self.path, errno))? })
    }

    /// Whether others can see `hold` in this record: not if somebody removed the record's file in the meantime and this is a new one.
    pub(super) fn has(&self, hold: &Hold) -> Result<bool> {
        let same = hold.lock.is_on_same_file(&self.transition);
        same.map_err(|errno| Error::syscall("fstat", &self.path, errno))
    }

    /// Removes the record: the layer is not mounted and nobody uses it.
    pub(super) fn unlink(self) -> Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != NotFound => Err(Error::io("unlink", &self.path, error)),
            _ => Ok(()),
        }
    }

    fn file(&self) -> &File {
        self.transition.file()
    }
}

fn open(path: &Path) -> Result<File> {
    let try_open = || {
        let flags = libc::O_NOFOLLOW;
        File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(flags)
            .open(path)
    };
    let opened = match (try_open(), path.parent()) {
        // Something that cleans up below /run or /tmp has taken the directory.
        (Err(error), Some(dir)) if error.kind() == NotFound => {
            super::make_run_dir(dir).and_then(|()| try_open())
        }
        (result, _) => result,
    };
    opened.map_err(|error| Error::io("open", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> (tempfile::TempDir, PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("mounts/abc");
        (temp, path)
    }

    #[test]
    fn counts_are_kept_in_the_file() {
        let (_temp, path) = record();
        let record = Record::lock(path.clone()).unwrap();
        assert_eq!(record.persistent().unwrap(), None);
        for count in [0, 10, 9, 1234, 0] {
            record.set_persistent(count).unwrap();
            assert_eq!(record.persistent().unwrap(), Some(count));
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{count}\n"));
        }
        // As a process leaves it that is killed between writing and truncating.
        fs::write(&path, "9\n\n").unwrap();
        assert_eq!(record.persistent().unwrap(), Some(9));
        fs::write(&path, "junk").unwrap();
        assert_eq!(record.persistent().unwrap(), Some(1));
        assert_eq!(record.manner().unwrap(), "");
        record.write(2, "uids 0:1000:1").unwrap();
        record.set_persistent(10).unwrap();
        assert_eq!((record.persistent().unwrap(), &*record.manner().unwrap()), (Some(10), "uids 0:1000:1"));
        record.write(0, "").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "0\n");
        record.unlink().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn holds_are_seen_by_others_until_dropped() {
        let (_temp, path) = record();
        let first = Record::lock(path.clone()).unwrap();
        let hold = first.hold().unwrap();
        drop(first);
        let second = Record::lock(path.clone()).unwrap();
        assert!(second.is_held().unwrap());
        drop(hold);
        assert!(!second.is_held().unwrap());
    }

    #[test]
    fn who_waited_for_an_unlinked_record_gets_the_new_one() {
        let (_temp, path) = record();
        let first = Record::lock(path.clone()).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| Record::lock(path.clone()).unwrap());
            // The waiter has opened the file, most likely; if not, the test only tests less.
            std::thread::sleep(std::time::Duration::from_millis(50));
            first.unlink().unwrap();
            let second = waiting.join().unwrap();
            assert!(is_current(AT_FDCWD, path.as_os_str(), second.file()).unwrap());
            assert_eq!(second.persistent().unwrap(), None);
        });
    }
}
