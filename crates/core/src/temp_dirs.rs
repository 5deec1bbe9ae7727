//! Temporary directories in a home that are swept when their process is gone.
//!
//! The protocol is that of containers/storage, so that either cleans up after the other: below `<home>/tempdirs` (0700) each `temp-dir-<id>` has a file `lock-<id>`, which the owner of the directory keeps locked exclusively.
//! Whoever gets the lock without waiting may remove directory and lock file.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::ErrorKind::AlreadyExists;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use graphdriver_archive::{RootDir, remove_at};
use graphdriver_sys::ofd_lock::LockKind;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::error::{Error, ErrorKind, Result};
use crate::lock_file::{FileLock, is_current};
use crate::metadata_file::{sync_dir, write_new};
use crate::random_name::random_name;

const DIR_PREFIX: &str = "temp-dir-";
const LOCK_PREFIX: &str = "lock-";
/// The longest file name, in bytes.
const NAME_MAX: usize = 255;

/// Removes an entry of the directory, whatever it is, with all below it; missing is fine. The path is for messages.
pub type RemoveTree = fn(BorrowedFd<'_>, &OsStr, &Path) -> Result<()>;

/// The temporary directories of one home, `<home>/tempdirs`, on the same file system as its layers.
///
/// What is to become a layer is filled in one of them and renamed into place; what was a layer is renamed into one and then deleted. Either way a
/// killed process leaves nothing that the next opening does not sweep.
#[derive(Clone, Debug)]
#[doc(alias = "GetTempDirRootDirs")]
pub struct TempDirs {
    path: PathBuf,
    remove: RemoveTree,
    /// Empty where a home on a read-only file system never had temporary directories, until it is remounted and gets one.
    root: Arc<OnceLock<RootDir>>,
}

impl TempDirs {
    /// The temporary directories of the home at `home`; makes `<home>/tempdirs` if need be, and sweeps it.
    ///
    /// What cannot be swept is logged and stays: no leftover keeps a home from opening. A home on a read-only file system opens too; only [`create`](Self::create) fails then.
    ///
    /// # Errors
    /// `Io` when `home` is missing; `PermissionDenied`; `NoSpace`.
    pub fn open(home: &Path) -> Result<Self> {
        Self::open_with(home, |dir, name, path| Ok(remove_at(dir, name, path)?))
    }

    /// Like [`open`](Self::open), for homes in which there is more than files and directories: `remove` removes a directory and all below it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(home: &Path, remove: RemoveTree) -> Result<Self> {
        let temp_dirs = Self { path: home.join("tempdirs"), remove, root: Arc::default() };
        match temp_dirs.root() {
            Err(error) if error.errno() == Some(Errno::EROFS) => return Ok(temp_dirs),
            root => root?,
        };
        if let Err(error) = temp_dirs.recover() {
            tracing::warn!(error = %error.report(), "leftovers of another process stay");
        }
        Ok(temp_dirs)
    }

    /// Makes an empty directory (0700) of this process.
    ///
    /// # Errors
    /// `NoSpace`, `PermissionDenied`, `Io`.
    #[doc(alias = "NewTempDir")]
    pub fn create(&self) -> Result<TempDir> {
        let (id, lock) = self.new_lock()?;
        match self.new_dir(&id) {
            Ok(dir) => Ok(TempDir {
                temp_dirs: self.clone(),
                id,
                dir,
                _lock: lock,
                taken_in: AtomicU64::new(0),
                owner: std::process::id(),
                present: true,
            }),
            Err(error) => {
                self.delete(&id)
                    .inspect_err(|error| tracing::warn!(error = %error.report(), "a lock file stays"))
                    .ok();
                Err(error)
            }
        }
    }

    /// Gives the file at `path`, which is on the home's file system, these contents and exactly this mode, as [`write_atomic`](crate::write_atomic) does, but by way of a directory of this process: nothing else ever lies
    /// beside the file. For directories in which every name means something.
    ///
    /// # Errors
    /// `NoSpace`, `PermissionDenied`, `Io`; the old contents remain.
    pub fn write_atomic(&self, path: &Path, contents: &[u8], mode: u32) -> Result<()> {
        let temp_dir = self.create()?;
        let temporary = temp_dir.path().join("file");
        write_new(&temp_dir, "file", contents, mode).map_err(|error| error.path(&temporary))?;
        fs::rename(&temporary, path).map_err(|error| Error::io("rename", path, error))?;
        let dir = path.parent().unwrap_or(Path::new("/"));
        File::open(dir).map_err(|error| Error::io("open", dir, error)).and_then(sync_dir)
    }

    /// The directories whose processes are gone.
    ///
    /// # Errors
    /// `Io`.
    pub fn leftovers(&self) -> Result<Vec<PathBuf>> {
        let mut leftovers = Vec::new();
        for id in self.ids()? {
            let is_left = match self.try_lock(&prefixed(LOCK_PREFIX, &id), OFlag::empty()) {
                Ok(lock) => lock.is_some(),
                // Gone meanwhile, or removed by hand.
                Err(error) if error.errno() == Some(Errno::ENOENT) => false,
                Err(error) => return Err(error),
            };
            if is_left {
                leftovers.push(self.path.join(prefixed(DIR_PREFIX, &id)));
            }
        }
        Ok(leftovers)
    }

    /// Deletes the directories whose processes are gone.
    ///
    /// # Errors
    /// The first of the failures to delete one; the others are deleted all the same.
    #[doc(alias = "RecoverStaleDirs")]
    pub fn recover(&self) -> Result<()> {
        let mut first = Ok(());
        for id in self.ids()? {
            first = first.and(self.recover_one(&id));
        }
        first
    }

    /// The ids of all directories and lock files.
    fn ids(&self) -> Result<BTreeSet<OsString>> {
        let failed = |error| Error::io("read directory", &self.path, error);
        let mut ids = BTreeSet::new();
        if self.root.get().is_none() {
            return Ok(ids);
        }
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().into_vec();
            let id = name
                .strip_prefix(DIR_PREFIX.as_bytes())
                .or_else(|| name.strip_prefix(LOCK_PREFIX.as_bytes()));
            ids.extend(id.map(|id| OsStr::from_bytes(id).to_owned()));
        }
        Ok(ids)
    }

    fn recover_one(&self, id: &OsStr) -> Result<()> {
        // A directory may lack its lock file only when somebody removed that by hand; it is made then, to keep others off.
        let name = prefixed(LOCK_PREFIX, id);
        match self.try_lock(&name, OFlag::O_CREAT)? {
            Some(_lock) => self.delete(id),
            None => Ok(()),
        }
    }

    /// A lock file that is new and locked, and the id that it stands for.
    fn new_lock(&self) -> Result<(OsString, FileLock)> {
        loop {
            let id = OsString::from(random_name());
            // Without a lock when a process that is sweeping was faster: it deletes the file.
            if let Some(lock) = self.try_lock(&prefixed(LOCK_PREFIX, &id), OFlag::O_CREAT | OFlag::O_EXCL)? {
                return Ok((id, lock));
            }
        }
    }

    /// The lock file `name`, locked; `None` while somebody else has it, or when it was deleted meanwhile.
    fn try_lock(&self, name: &OsStr, flags: OFlag) -> Result<Option<FileLock>> {
        let failed = |call| move |errno| Error::syscall(call, self.path.join(name), errno);
        let root = self.root()?;
        let flags = flags | OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(root, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(failed("openat"))?;
        let lock = FileLock::try_lock(fd.into(), 0, 0, LockKind::Exclusive).map_err(failed("fcntl"))?;
        let Some(lock) = lock else { return Ok(None) };
        let current = is_current(root.as_fd(), name, lock.file()).map_err(failed("fstatat"))?;
        Ok(current.then_some(lock))
    }

    fn new_dir(&self, id: &OsStr) -> Result<RootDir> {
        let name = prefixed(DIR_PREFIX, id);
        let root = self.root()?;
        mkdirat(root, &*name, Mode::S_IRWXU)
            .map_err(|errno| Error::syscall("mkdirat", self.path.join(&name), errno))?;
        Ok(root.subdir(Path::new(&name))?)
    }

    /// Deletes directory and lock file, in this order, so that a directory never is without; the lock must be held.
    fn delete(&self, id: &OsStr) -> Result<()> {
        let dir = prefixed(DIR_PREFIX, id);
        let root = self.root()?;
        (self.remove)(root.as_fd(), &dir, &self.path.join(&dir))?;
        let lock = prefixed(LOCK_PREFIX, id);
        match unlinkat(root, &*lock, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(Error::syscall("unlinkat", self.path.join(&lock), errno)),
        }
    }

    /// The directory, made if need be.
    fn root(&self) -> Result<&RootDir> {
        if let Some(root) = self.root.get() {
            return Ok(root);
        }
        match fs::DirBuilder::new().mode(0o700).create(&self.path) {
            Err(error) if error.kind() != AlreadyExists => {
                return Err(Error::io("mkdir", &self.path, error));
            }
            _ => {}
        }
        let root = RootDir::open(&self.path)?;
        Ok(self.root.get_or_init(|| root))
    }
}

fn prefixed(prefix: &str, id: &OsStr) -> OsString {
    let mut name = OsString::from(prefix);
    name.push(id);
    name
}

/// A directory of this process below a home; it and all in it is deleted at the end.
///
/// [`delete`](Self::delete) reports, dropping only logs. In a child made by `fork` the guard does nothing.
#[must_use = "dropping the guard deletes the directory"]
#[derive(Debug)]
pub struct TempDir {
    temp_dirs: TempDirs,
    id: OsString,
    dir: RootDir,
    /// Released after the directory is gone.
    _lock: FileLock,
    taken_in: AtomicU64,
    owner: u32,
    present: bool,
}

impl TempDir {
    /// The path of the directory; absolute if the home's was.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The directory, open.
    pub fn dir(&self) -> &RootDir {
        &self.dir
    }

    /// Moves `path`, whatever it is, into this directory, and tells where it is now: `<n>-<its last component>`.
    ///
    /// It is out of its place in one step, and is deleted with the directory.
    ///
    /// # Errors
    /// `Io` with `ENOENT` when it is missing, `EBUSY` where something is mounted on it, `EXDEV` when it is on another file system than the home.
    #[doc(alias = "StageDeletion")]
    pub fn take_in(&self, path: &Path) -> Result<PathBuf> {
        let Some(base) = path.file_name() else {
            return Err(Error::new(ErrorKind::InvalidArgument, "move aside")
                .path(path)
                .detail("has no last component"));
        };
        let mut name = OsString::from(format!("{}-", self.taken_in.fetch_add(1, Ordering::Relaxed)));
        name.push(base);
        // The longest of names has no room for a number.
        let name = OsStr::from_bytes(name.as_bytes().get(..NAME_MAX).unwrap_or(name.as_bytes()));
        let now = self.path().join(name);
        let renamed = match renameat(AT_FDCWD, path, &self.dir, name) {
            // Another program may have mounted the home on itself since this directory was opened, as containers/storage does: only on today's paths are both on one mount.
            Err(Errno::EXDEV) => renameat(AT_FDCWD, path, AT_FDCWD, &now),
            renamed => renamed,
        };
        renamed.map_err(|errno| Error::syscall("renameat", path, errno))?;
        Ok(now)
    }

    /// Deletes the directory and all in it.
    ///
    /// # Errors
    /// The first failure to remove something; what stays goes at the next opening of the home.
    #[doc(alias = "Cleanup")]
    pub fn delete(mut self) -> Result<()> {
        self.delete_once()
    }

    fn delete_once(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.present) || self.owner != std::process::id() {
            return Ok(());
        }
        self.temp_dirs.delete(&self.id)
    }
}

impl AsFd for TempDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if let Err(error) = self.delete_once() {
            tracing::warn!(error = %error.report(), "a temporary directory stays until the home is opened again");
        }
    }
}

#[cfg(test)]
mod tests;
