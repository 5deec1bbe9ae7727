//! Whether overlay works on this kernel and on the file system of the home, and how it wants to be spoken to.
//!
//! Found by mounting in a temporary directory on that file system: what a kernel version promises, a file system, a security
//! module or a container may take away.

use std::borrow::Cow;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};

use graphdriver_archive::whiteout::OverlayXattrs;
use graphdriver_core::{Error, ErrorKind, FsMagic, Result, fs_magic};
use graphdriver_sys::capability::{self, Capability};
use graphdriver_sys::dents::{Buffer, Dents};
use graphdriver_sys::{FileType, user_namespace, xattr};
use nix::errno::Errno;

use crate::mount::{self, Attributes, Dialect, MountApi, OverlayMount, Upper};
use crate::options::OverlayTuning;

/// File systems that overlay cannot have below it: union file systems, and eCryptfs.
const REFUSED: [FsMagic; 3] = [FsMagic::AUFS, FsMagic::ECRYPTFS, FsMagic::OVERLAY];

/// What was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Support {
    pub(crate) backing: FsMagic,
    pub(crate) dialect: Dialect,
    /// Mounts work in user namespaces too.
    pub(crate) user_namespace: bool,
}

/// Tries overlay in `scratch`, an empty directory on the home's file system.
///
/// # Errors
/// `IncompatibleFs` for a file system that cannot be below overlay; `NotSupported` when the kernel has no overlay; `Prerequisites` without the
/// privilege to mount; `NoSpace`; `Io`.
pub(crate) fn probe(scratch: &Path, tuning: OverlayTuning) -> Result<Support> {
    check_privilege()?;
    let initial =
        user_namespace::in_initial().map_err(|error| Error::io("read", "/proc/self/uid_map", error))?;
    let backing = fs_magic(scratch)?;
    check_file_system(scratch, backing, initial)?;
    let trial = Trial::prepare(scratch)?;
    check_file_types(&trial)?;
    let xattrs = if initial { OverlayXattrs::Trusted } else { OverlayXattrs::User };
    check_xattrs(&trial, backing, xattrs)?;
    let dialect = trial.find_dialect(backing, xattrs, tuning)?;
    let user_namespace = !initial || trial.works_unprivileged(dialect);
    Ok(Support { backing, dialect, user_namespace })
}

/// Asked for first, because without it everything else fails in its own way.
///
/// # Errors
/// `Prerequisites` without the privilege to mount.
pub(crate) fn check_privilege() -> Result<()> {
    match capability::has_effective(Capability::SysAdmin) {
        Ok(false) => {
            Err(Error::new(ErrorKind::Prerequisites, "probe overlay").detail(mount::NEEDS_PRIVILEGE))
        }
        // Where a sandbox keeps the answer back, the mount tells.
        Ok(true) | Err(_) => Ok(()),
    }
}

fn check_file_system(scratch: &Path, backing: FsMagic, initial: bool) -> Result<()> {
    if REFUSED.contains(&backing) {
        return Err(incompatible(scratch, backing, "overlay cannot have it below"));
    }
    if backing.is_network() && !initial {
        return Err(incompatible(
            scratch,
            backing,
            "a network file system does not work in a user namespace",
        ));
    }
    Ok(())
}

/// Overlay tells whiteouts by the file type that a directory entry carries.
fn check_file_types(trial: &Trial) -> Result<()> {
    let failed = |errno| Error::syscall("read directory", &trial.lower, errno);
    let dir = fs::File::open(&trial.lower).map_err(|error| Error::io("open", &trial.lower, error))?;
    let mut buffer = Buffer::new();
    let mut entries = Dents::new(&dir, &mut buffer);
    while let Some(entry) = entries.next_entry().map_err(failed)? {
        if entry.file_type == FileType::Unknown {
            let backing = fs_magic(&trial.lower)?;
            let advice = "directory entries carry no file types there; format it with ftype=1 (xfs) or -O filetype (ext4)";
            return Err(incompatible(&trial.lower, backing, advice));
        }
    }
    Ok(())
}

/// Overlay marks opaque directories with an extended attribute; tmpfs has those of users since Linux 6.6.
fn check_xattrs(trial: &Trial, backing: FsMagic, xattrs: OverlayXattrs) -> Result<()> {
    match trial.mark_opaque(xattrs) {
        Ok(()) => Ok(()),
        Err(Errno::EOPNOTSUPP) => {
            let advice = format!("it cannot store the attribute {:?}", xattrs.opaque());
            Err(incompatible(&trial.upper, backing, &advice))
        }
        Err(errno) => Err(Error::syscall("setxattr", &trial.upper, errno)),
    }
}

/// The directories of a mount to try.
struct Trial {
    /// Has the directory `gone`, which is removed in the mount.
    lower: PathBuf,
    other: PathBuf,
    upper: PathBuf,
    work: PathBuf,
    merged: PathBuf,
}

impl Trial {
    fn prepare(scratch: &Path) -> Result<Self> {
        let make = |name: &str| {
            let path = scratch.join(name);
            let made = DirBuilder::new().mode(0o700).create(&path);
            made.map(|()| path.clone()).map_err(|error| Error::io("mkdir", path, error))
        };
        let trial = Self {
            lower: make("lower")?,
            other: make("other")?,
            upper: make("upper")?,
            work: make("work")?,
            merged: make("merged")?,
        };
        make("lower/gone")?;
        Ok(trial)
    }

    fn mark_opaque(&self, xattrs: OverlayXattrs) -> nix::Result<()> {
        let dir = fs::File::open(&self.other)
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))?;
        xattr::fset(&dir, xattrs.opaque(), b"y", xattr::SetFlags::empty())
    }

    /// The newest dialect that the kernel takes.
    fn find_dialect(
        &self,
        backing: FsMagic,
        xattrs: OverlayXattrs,
        tuning: OverlayTuning,
    ) -> Result<Dialect> {
        let mut failures = Vec::new();
        for dialect in dialects(xattrs, tuning) {
            match self.mount(dialect) {
                Ok(()) => {
                    self.check_whiteouts(backing)?;
                    return Ok(dialect);
                }
                Err(error) => {
                    tracing::debug!(?dialect, error = %error.report(), "this way of mounting overlay does not work here");
                    failures.push(error);
                }
            }
        }
        Err(self.explain(backing, failures))
    }

    /// The oldest dialect's failure says what is amiss, unless the file system is; then the newest's has the better text.
    fn explain(&self, backing: FsMagic, mut failures: Vec<Error>) -> Error {
        match failures.last().map(Error::kind) {
            Some(ErrorKind::NotSupported | ErrorKind::NoSpace) | None => {
                failures.pop().unwrap_or_else(|| Error::new(ErrorKind::NotSupported, "mount overlay"))
            }
            Some(ErrorKind::PermissionDenied) => {
                let cause = failures.swap_remove(failures.len() - 1);
                Error::new(ErrorKind::Prerequisites, "probe overlay").path(&self.merged).source(cause)
            }
            Some(_) => {
                let of_overlay = |error: &Error| {
                    !matches!(error.kind(), ErrorKind::NotSupported | ErrorKind::PermissionDenied)
                };
                let first = failures.iter().position(of_overlay).unwrap_or_default();
                let error = incompatible(&self.upper, backing, "mounting overlay on it does not work");
                error.source(failures.swap_remove(first))
            }
        }
    }

    /// Mounts, removes what the lower directory has, and unmounts.
    fn mount(&self, dialect: Dialect) -> Result<()> {
        let lowers = [Cow::from(&self.lower), Cow::from(&self.other)];
        let mount = OverlayMount {
            lowers: &lowers,
            upper: Some(Upper { directory: &self.upper, work: &self.work }),
            target: &self.merged,
            volatile: true,
            label: None,
            attributes: Attributes::NONE,
        };
        mount.attach(dialect)?;
        let gone = self.merged.join("gone");
        let removed = match fs::remove_dir(&gone) {
            // A dialect tried before may have got this far.
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove directory in overlay", gone, error))
            }
            _ => Ok(()),
        };
        mount::detach(&self.merged).and(removed)
    }

    fn check_whiteouts(&self, backing: FsMagic) -> Result<()> {
        let whiteout = self.upper.join("gone");
        match fs::symlink_metadata(&whiteout) {
            Ok(found) if found.file_type().is_char_device() => Ok(()),
            Ok(_) => Err(incompatible(&whiteout, backing, "overlay makes no whiteouts there")),
            Err(error) => Err(Error::io("stat", whiteout, error)),
        }
    }

    /// Whether a mount as in a user namespace works; tried as root, since the file system is what may stand against it.
    fn works_unprivileged(&self, dialect: Dialect) -> bool {
        if self.mark_opaque(OverlayXattrs::User).is_err() {
            return false;
        }
        match dialect.api {
            MountApi::FsContext => mount::knows_userxattr(),
            MountApi::Mount => self.mount(Dialect { xattrs: OverlayXattrs::User, ..dialect }).is_ok(),
        }
    }
}

/// What to try, newest first.
fn dialects(xattrs: OverlayXattrs, tuning: OverlayTuning) -> Vec<Dialect> {
    let all = [
        Dialect { api: MountApi::FsContext, switches: true, volatile: true, xattrs },
        Dialect { api: MountApi::Mount, switches: true, volatile: true, xattrs },
        Dialect { api: MountApi::Mount, switches: true, volatile: false, xattrs },
        Dialect { api: MountApi::Mount, switches: false, volatile: false, xattrs },
    ];
    let wanted = |dialect: &Dialect| tuning.mount_api.is_none_or(|api| api == dialect.api);
    all.into_iter().filter(wanted).collect()
}

fn incompatible(path: &Path, backing: FsMagic, why: &str) -> Error {
    let detail = format!("the file system is {backing}: {why}");
    Error::new(ErrorKind::IncompatibleFs, "probe overlay").path(path).detail(detail)
}
