//! Limits of directory trees: project quotas of the file system below a home.
//!
//! A *project* is a number that an inode carries. The file system counts space and inodes of each project, and stops writes beyond its limits. A directory with the
//! flag to pass its project on makes the tree below it one project; this is what a limited layer is.
//!
//! The kernel's own counters say which numbers are in use: a layer's directory counts as an inode of its project for as long as it exists, wherever it is renamed to, so that a number whose counters are zero is free. Nothing has to be
//! written down, and nothing has to be read again after a restart.

mod ids;
mod unavailable;
mod volume;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use graphdriver_archive::{DiskUsage, RootDir};
use graphdriver_sys::file_attributes::{self, AttributeFlags, FileAttributes};
use graphdriver_sys::project_quota::{BLOCK_BYTES, Limits, ProjectRecord, record, set_limits};
use nix::errno::Errno;
use nix::sys::stat::{FileStat, fstat};

use crate::driver::Quota;
use crate::error::{Error, ErrorKind, Result};
use crate::home_lock::HomeLock;

pub use self::unavailable::Unavailable;
pub use self::volume::QuotaCall;

use self::volume::OpenVolume;

/// The projects of one home.
///
/// Several processes may have one open: numbers are handed out under the [`HomeLock`]. Needs `CAP_SYS_ADMIN` in the initial user namespace, and a file system that is mounted with project
/// quotas, such as xfs or ext4.
#[derive(Debug)]
#[doc(alias = "Control")]
pub struct ProjectQuota {
    home: RootDir,
    layers: PathBuf,
    volume: OpenVolume,
    first: u32,
    /// The number handed out last by this value.
    last: AtomicU32,
}

impl ProjectQuota {
    /// The projects of the directory `home`; layers are renamed into its subdirectory `layers`, which may be the home itself. Changes nothing.
    ///
    /// # Errors
    /// The reason why there are none, and what to do about it.
    #[doc(alias = "NewControl")]
    pub fn open(home: &Path, layers: &Path) -> Result<Self, Unavailable> {
        Self::open_by(QuotaCall::best(), home, layers)
    }

    /// Like [`open`](Self::open), by this system call.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_by(call: QuotaCall, home: &Path, layers: &Path) -> Result<Self, Unavailable> {
        let home = RootDir::open(home).map_err(Error::from)?;
        let volume = OpenVolume::open(call, &home)?;
        let own = attributes_of(&home)?.project();
        let first = if own == 0 { ids::first_for_inode(stat(&home)?.st_ino) } else { own };
        Ok(Self { home, layers: layers.to_owned(), volume, first, last: AtomicU32::new(first) })
    }

    /// Whether there could be projects in a home below the existing directory `dir`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn probe(dir: &Path) -> Result<(), Unavailable> {
        let dir = RootDir::open(dir).map_err(Error::from)?;
        OpenVolume::open(QuotaCall::best(), &dir)?;
        attributes_of(&dir).map(drop)?;
        Ok(())
    }

    /// Makes the empty directory `dir` a project of its own, with these limits. Everything made in it from now on counts.
    ///
    /// Where the home itself passes a project on to all that is in it, as `xfs_quota -c 'project -s'` sets it up, an unlimited `dir` stays in that project; for a limited one the home ceases to pass its
    /// project on, because projects do not nest.
    ///
    /// # Errors
    /// `InvalidArgument` when `dir` is not empty; `NoSpace` when all numbers are in use; `PermissionDenied`; `Io`.
    #[doc(alias = "SetQuota")]
    pub fn assign(&self, dir: &RootDir, limits: Quota) -> Result<()> {
        require_empty(dir)?;
        let id = {
            let _lock = HomeLock::exclusive(self.home.path())?;
            if limits.is_unlimited() && passes_on(&attributes_of(&self.home)?) {
                return Ok(());
            }
            self.end_inheritance()?;
            self.claim(dir)?
        };
        self.limit(id, limits).map_err(|error| error.path(dir.path()))
    }

    /// Makes the empty directory `dir` part of the project that `other` is, if it is one: only then can it, and what will be in it, be renamed into `other`.
    ///
    /// # Errors
    /// `Io`.
    pub fn join(&self, dir: &RootDir, other: &RootDir) -> Result<()> {
        match self.project_of(other)? {
            Some(id) => set_project(dir, id),
            None => Ok(()),
        }
    }

    /// What the project that `dir` is has used: space that is allocated, and inodes, `dir` included. `None` when it is no project of its own.
    ///
    /// # Errors
    /// `Io`.
    #[doc(alias = "GetDiskUsage")]
    pub fn usage(&self, dir: &RootDir) -> Result<Option<DiskUsage>> {
        let Some(id) = self.project_of(dir)? else { return Ok(None) };
        let record = self.record(id)?;
        Ok(Some(DiskUsage { bytes: record.blocks.saturating_mul(BLOCK_BYTES), inodes: record.inodes }))
    }

    /// The limits of the project that `dir` is; `None` when it is no project of its own.
    ///
    /// # Errors
    /// `Io`.
    #[doc(alias = "GetQuota")]
    pub fn limits(&self, dir: &RootDir) -> Result<Option<Quota>> {
        let Some(id) = self.project_of(dir)? else { return Ok(None) };
        Ok(Some(quota_of(self.record(id)?.limits)))
    }

    /// Lifts the limits of the project that `dir` is. Its number is free again once the directory and all in it is gone.
    ///
    /// # Errors
    /// `Io`.
    #[doc(alias = "ClearQuota")]
    pub fn lift(&self, dir: &RootDir) -> Result<()> {
        match self.project_of(dir)? {
            Some(id) => self.limit(id, Quota::default()),
            None => Ok(()),
        }
    }

    /// The number of the project that `dir` is, unless it is part of a larger one or none, or on another file system.
    fn project_of(&self, dir: &RootDir) -> Result<Option<u32>> {
        if stat(dir)?.st_dev != stat(&self.home)?.st_dev {
            return Ok(None);
        }
        let (attributes, home) = (attributes_of(dir)?, attributes_of(&self.home)?);
        let id = attributes.project();
        Ok((passes_on(&attributes) && id != 0 && id != home.project()).then_some(id))
    }

    /// Gives `dir` a number that nothing else has. The home must be locked.
    fn claim(&self, dir: &RootDir) -> Result<u32> {
        for id in ids::candidates(self.first, self.last.load(Ordering::Relaxed)) {
            let record = self.record(id)?;
            if !is_free(&record) {
                continue;
            }
            if record.limits != Limits::default() {
                // Of a layer that a killed process left, or that another program removed.
                self.limit(id, Quota::default())?;
            }
            set_project(dir, id)?;
            // The lock is the home's. Another home on the file system may have taken the same number at this moment.
            if self.record(id)?.inodes == 1 {
                self.last.store(id, Ordering::Relaxed);
                return Ok(id);
            }
        }
        let detail = "every project id of the file system is in use";
        Err(Error::new(ErrorKind::NoSpace, "set quota").path(dir.path()).detail(detail))
    }

    fn record(&self, id: u32) -> Result<ProjectRecord> {
        record(self.volume.get(&self.home), id).map_err(|errno| self.failed("Q_XGETPQUOTA", id, errno))
    }

    fn limit(&self, id: u32, quota: Quota) -> Result<()> {
        set_limits(self.volume.get(&self.home), id, limits_of(quota))
            .map_err(|errno| self.failed("Q_XSETPQLIM", id, errno))
    }

    fn failed(&self, command: &'static str, id: u32, errno: Errno) -> Error {
        Error::syscall("quotactl", self.home.path(), errno).detail(format!("{command} of project {id}"))
    }

    /// Lets what is made and renamed in the home be of other projects than the home is.
    fn end_inheritance(&self) -> Result<()> {
        for path in [self.home.path(), &self.home.path().join("tempdirs"), &self.layers] {
            let dir = RootDir::open(path)?;
            let attributes = attributes_of(&dir)?;
            if passes_on(&attributes) {
                tracing::warn!(
                    ?path,
                    project = attributes.project(),
                    "no longer passes its project on: layers have projects of their own"
                );
                let flags = attributes.flags() - AttributeFlags::PROJECT_INHERIT;
                set_attributes(&dir, &attributes.with_flags(flags))?;
            }
        }
        Ok(())
    }
}

fn is_free(record: &ProjectRecord) -> bool {
    record.blocks == 0 && record.inodes == 0
}

fn limits_of(quota: Quota) -> Limits {
    // A limit of less than a block must not become none.
    Limits { blocks: quota.bytes.unwrap_or(0).div_ceil(BLOCK_BYTES), inodes: quota.inodes.unwrap_or(0) }
}

fn quota_of(limits: Limits) -> Quota {
    let some = |limit: u64| (limit != 0).then_some(limit);
    Quota { bytes: some(limits.blocks.saturating_mul(BLOCK_BYTES)), inodes: some(limits.inodes) }
}

fn passes_on(attributes: &FileAttributes) -> bool {
    attributes.flags().contains(AttributeFlags::PROJECT_INHERIT)
}

fn attributes_of(dir: &RootDir) -> Result<FileAttributes> {
    file_attributes::get(dir).map_err(|errno| Error::syscall("FS_IOC_FSGETXATTR", dir.path(), errno))
}

fn set_attributes(dir: &RootDir, attributes: &FileAttributes) -> Result<()> {
    file_attributes::set(dir, attributes)
        .map_err(|errno| Error::syscall("FS_IOC_FSSETXATTR", dir.path(), errno))
}

fn set_project(dir: &RootDir, id: u32) -> Result<()> {
    let attributes = attributes_of(dir)?;
    let flags = attributes.flags() | AttributeFlags::PROJECT_INHERIT;
    set_attributes(dir, &attributes.with_project(id).with_flags(flags))
        .map_err(|error| error.detail(format!("project {id}")))
}

/// What is in a directory already would not change its project with it.
fn require_empty(dir: &RootDir) -> Result<()> {
    let mut entries =
        fs::read_dir(dir.path()).map_err(|error| Error::io("read directory", dir.path(), error))?;
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(Error::new(ErrorKind::InvalidArgument, "set quota")
            .path(dir.path())
            .detail("a quota can be set for an empty directory only")),
    }
}

fn stat(dir: &RootDir) -> Result<FileStat> {
    fstat(dir).map_err(|errno| Error::syscall("fstat", dir.path(), errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_rounded_up_to_blocks() {
        for (bytes, blocks) in
            [(None, 0), (Some(0), 0), (Some(1), 1), (Some(512), 1), (Some(513), 2), (Some(u64::MAX), 1 << 55)]
        {
            assert_eq!(limits_of(Quota { bytes, inodes: None }), Limits { blocks, inodes: 0 }, "{bytes:?}");
        }
    }

    #[test]
    fn limits_and_back() {
        for quota in [
            Quota::default(),
            Quota { bytes: Some(1024), inodes: None },
            Quota { bytes: None, inodes: Some(7) },
            Quota { bytes: Some(50 << 20), inodes: Some(1) },
        ] {
            assert_eq!(quota_of(limits_of(quota)), quota);
        }
    }

    #[test]
    fn a_number_is_free_when_nothing_counts_for_it() {
        let limits = Limits { blocks: 8, inodes: 1 };
        for (blocks, inodes, free) in [(0, 0, true), (8, 0, false), (0, 1, false)] {
            assert_eq!(is_free(&ProjectRecord { blocks, inodes, limits }), free);
        }
    }

    #[test]
    fn only_empty_directories() {
        let temp = tempfile::tempdir().unwrap();
        let dir = RootDir::open(temp.path()).unwrap();
        require_empty(&dir).unwrap();
        fs::write(temp.path().join("file"), "").unwrap();
        assert_eq!(require_empty(&dir).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}
