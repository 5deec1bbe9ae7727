//! What the kernel may or may not have beyond plain overlay mounts; each is tried when somebody asks.

use std::ffi::CStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use graphdriver_archive::whiteout::OverlayXattrs;
use graphdriver_core::{Error, ErrorKind, Result};
use graphdriver_sys::xattr;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::dialect::mount_and_delete;
use super::trial::{Trial, make_dir, mark_opaque};
use crate::composefs;
use crate::ids;
use crate::mount::{self, Dialect, IdMapping, MountApi, RedirectDir, Wishes};

/// A feature that mounts can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Feature {
    RedirectDir,
    Metacopy,
    Index,
    Userxattr,
    Volatile,
    DataOnlyLowers,
    /// Lower directories on id-mapped mounts that are attached nowhere.
    DetachedIdMaps,
    /// The same on mounts attached in a namespace.
    AttachedIdMaps,
    /// Images below, on mounts that are attached nowhere.
    DetachedImages,
    /// The same on mounts attached in a namespace.
    AttachedImages,
    /// Directories in an upper one are marked opaque where they are, and only there.
    TrueOpaqueMarks,
}

/// Whether a feature is there, with the reason if not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    On,
    Off(String),
}

impl Verdict {
    pub(crate) fn is_on(&self) -> bool {
        *self == Self::On
    }

    fn off(reason: &str) -> Self {
        Self::Off(reason.to_owned())
    }
}

impl Feature {
    pub(crate) fn of_id_mapping(way: IdMapping) -> Self {
        match way {
            IdMapping::Detached => Self::DetachedIdMaps,
            IdMapping::Namespace => Self::AttachedIdMaps,
        }
    }

    pub(crate) fn of_images(way: IdMapping) -> Self {
        match way {
            IdMapping::Detached => Self::DetachedImages,
            IdMapping::Namespace => Self::AttachedImages,
        }
    }

    /// Tries it.
    ///
    /// # Errors
    /// What says nothing about the feature: `NoSpace`, `PermissionDenied`, `Io`.
    pub(super) fn probe(self, trial: &Trial, dialect: Dialect) -> Result<Verdict> {
        let in_user_namespace = dialect.xattrs == OverlayXattrs::User;
        match self {
            Self::RedirectDir | Self::Metacopy if in_user_namespace => {
                Ok(Verdict::off("not in a user namespace, where anybody could set the attributes it needs"))
            }
            Self::RedirectDir => verdict(redirect_dir(trial, dialect)),
            Self::Metacopy => verdict(metacopy(trial, dialect)),
            Self::Index => verdict(index(trial, dialect)),
            Self::Userxattr => userxattr(trial, dialect),
            Self::Volatile if dialect.volatile => Ok(Verdict::On),
            Self::Volatile => Ok(Verdict::off("the kernel does not know it (Linux 5.10)")),
            Self::DataOnlyLowers => verdict(trial.mounted_on_data(dialect, |_| Ok(Verdict::On))),
            Self::DetachedIdMaps => id_maps(trial, dialect, IdMapping::Detached),
            Self::AttachedIdMaps => id_maps(trial, dialect, IdMapping::Namespace),
            Self::DetachedImages => images(trial, dialect, IdMapping::Detached),
            Self::AttachedImages => images(trial, dialect, IdMapping::Namespace),
            Self::TrueOpaqueMarks => verdict(true_opaque_marks(trial, dialect)),
        }
    }
}

/// A mount that the kernel refuses as such says that the feature is not there.
fn verdict(outcome: Result<Verdict>) -> Result<Verdict> {
    const REFUSALS: [Errno; 5] =
        [Errno::EINVAL, Errno::EOPNOTSUPP, Errno::ENOSYS, Errno::ENODEV, Errno::EXDEV];
    match outcome {
        Err(error)
            if error.kind() == ErrorKind::NotSupported
                || error.errno().is_some_and(|errno| REFUSALS.contains(&errno)) =>
        {
            Ok(Verdict::Off(error.report().to_string()))
        }
        outcome => outcome,
    }
}

fn id_maps(trial: &Trial, dialect: Dialect, way: IdMapping) -> Result<Verdict> {
    match ids::probe(&trial.room()?, dialect, way) {
        // A user namespace has no right to what was mounted outside, whoever asks.
        Err(error)
            if dialect.xattrs == OverlayXattrs::User && error.kind() == ErrorKind::PermissionDenied =>
        {
            Ok(Verdict::Off(error.report().to_string()))
        }
        outcome => verdict(outcome.map(|()| Verdict::On)),
    }
}

/// A directory with a part below can be renamed.
fn redirect_dir(trial: &Trial, dialect: Dialect) -> Result<Verdict> {
    let wishes = Wishes { redirect_dir: Some(RedirectDir::On), ..Wishes::default() };
    trial.mounted(dialect, wishes, |merged| {
        let [from, to] = ["gone", "renamed"].map(|name| merged.join(name));
        fs::rename(&from, to).map_err(|error| Error::io("rename directory in overlay", from, error))?;
        Ok(Verdict::On)
    })
}

fn images(trial: &Trial, dialect: Dialect, way: IdMapping) -> Result<Verdict> {
    verdict(composefs::probe(&trial.room()?, dialect, way).map(|()| Verdict::On))
}

/// A changed mode leaves the contents below.
fn metacopy(trial: &Trial, dialect: Dialect) -> Result<Verdict> {
    let wishes = Wishes { metacopy: Some(true), ..Wishes::default() };
    trial.mounted(dialect, wishes, |merged| {
        let file = merged.join("file");
        let changed = fs::set_permissions(&file, Permissions::from_mode(0o600));
        changed.map_err(|error| Error::io("chmod in overlay", file, error))
    })?;
    let copy = trial.upper.join("file");
    match attribute(&copy, c"trusted.overlay.metacopy") {
        Ok(Some(_)) => Ok(Verdict::On),
        Ok(None) => Ok(Verdict::off("the kernel takes the option but copies whole files")),
        Err(errno) => Err(Error::syscall("getxattr", copy, errno)),
    }
}

/// Where the file system has no file handles, the kernel silently does without.
fn index(trial: &Trial, dialect: Dialect) -> Result<Verdict> {
    let wishes = Wishes { index: Some(true), ..Wishes::default() };
    trial.mounted(dialect, wishes, |_| Ok(()))?;
    if trial.work.join("index").is_dir() {
        return Ok(Verdict::On);
    }
    Ok(Verdict::off("the kernel takes the option but keeps no index on this file system"))
}

/// Whether a mount as in a user namespace works; tried as root, since the file system is what may stand against it.
pub(super) fn userxattr(trial: &Trial, dialect: Dialect) -> Result<Verdict> {
    if dialect.xattrs == OverlayXattrs::User {
        return Ok(Verdict::On);
    }
    if let Err(errno) = mark_opaque(&trial.other, OverlayXattrs::User) {
        return Ok(Verdict::Off(format!("the file system cannot store the attribute: {}", errno.desc())));
    }
    match dialect.api {
        MountApi::FsContext if mount::knows_userxattr() => Ok(Verdict::On),
        MountApi::FsContext => Ok(Verdict::off("the kernel does not know it (Linux 5.11)")),
        MountApi::Mount => {
            let dialect = Dialect { xattrs: OverlayXattrs::User, ..dialect };
            verdict(mount_and_delete(trial, dialect).map(|()| Verdict::On))
        }
    }
}

/// Kernels before 4.8 mark a directory as opaque that is made in one that is: a diff would delete what is below.
fn true_opaque_marks(trial: &Trial, dialect: Dialect) -> Result<Verdict> {
    let opaque = make_dir(trial.lower.join("opaque"))?;
    make_dir(trial.other.join("opaque"))?;
    let marked = mark_opaque(&opaque, dialect.xattrs);
    marked.map_err(|errno| Error::syscall("setxattr", &opaque, errno))?;
    trial.mounted(dialect, Wishes::default(), |merged| {
        let file = merged.join("opaque/file");
        fs::write(&file, []).map_err(|error| Error::io("write in overlay", file, error))
    })?;
    let copy = trial.upper.join("opaque");
    match attribute(&copy, dialect.xattrs.opaque()) {
        Ok(None) => Ok(Verdict::On),
        Ok(Some(_)) => Ok(Verdict::off("the kernel marks copied directories as opaque (before Linux 4.8)")),
        Err(errno) => Err(Error::syscall("getxattr", copy, errno)),
    }
}

fn attribute(path: &Path, name: &CStr) -> nix::Result<Option<Vec<u8>>> {
    let file =
        fs::File::open(path).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))?;
    xattr::fget(&file, name)
}
