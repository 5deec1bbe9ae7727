//! Owner, mode, extended attributes and times of what is unpacked.

use std::ffi::{CStr, OsStr};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use graphdriver_sys::capability::{Capability, has_effective};
use graphdriver_sys::xattr::{self, SetFlags};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, UtimensatFlags, fchmod, fchmodat, fstat, fstatat, futimens, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat};

use super::options::{ApplyOptions, WhiteoutMode};
use crate::error::{Error, Result};
use crate::id_map::{IdMaps, Owner};
use crate::override_stat::{self, OverrideStat, OverrideType};
use crate::tar::number::Timestamp;
use crate::tar::read::{Entry, EntryKind};
use crate::whiteout;
use crate::xattrs::{IdTranslation, XFS_ACL_PREFIX, Xattr};

/// Text that containers/storage has for an id that a user namespace lacks.
const SUBID_HINT: &str =
    "potentially insufficient UIDs or GIDs available in user namespace: check /etc/subuid and /etc/subgid";

/// How metadata of entries becomes metadata of files; the same for all entries of an archive.
#[derive(Debug)]
pub(super) struct Rules {
    id_maps: IdMaps,
    ignore_chown_errors: bool,
    force_mask: Option<u32>,
    /// The attribute that what mounts the layer takes for a file's owner and mode: not for archives to set.
    obeyed: Option<&'static CStr>,
    in_user_namespace: bool,
    may_chown: bool,
    ignored_chowns: AtomicU64,
    ignored_xattrs: AtomicU64,
}

/// What one file gets.
#[derive(Debug)]
pub(crate) struct Metadata {
    /// As stored on the host; `None` leaves what creation gave.
    pub(crate) owner: Option<Owner>,
    /// `None` for symbolic links, which have no mode of their own.
    pub(crate) mode: Option<u32>,
    pub(crate) xattrs: Vec<Xattr>,
    pub(crate) times: Option<Times>,
    /// The directory that the file was made in has a default ACL (`acl(5)`), which the file inherited and must not have.
    pub(crate) inherited_acl: bool,
}

/// Access and modification time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) atime: TimeSpec,
    pub(crate) mtime: TimeSpec,
}

/// The file that metadata is given to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target<'a> {
    /// Open, and not as `O_PATH`.
    Open(BorrowedFd<'a>),
    /// An entry of a directory; a symbolic link there is not followed.
    Entry(BorrowedFd<'a>, &'a OsStr),
}

impl Rules {
    pub(super) fn new(options: &ApplyOptions) -> Self {
        Self {
            id_maps: options.id_maps.clone(),
            ignore_chown_errors: options.ignore_chown_errors,
            force_mask: options.force_mask,
            obeyed: (options.whiteouts == WhiteoutMode::Fuse).then_some(override_stat::XATTR),
            in_user_namespace: options.in_user_namespace,
            may_chown: may_chown(),
            ignored_chowns: AtomicU64::new(0),
            ignored_xattrs: AtomicU64::new(0),
        }
    }

    /// Whether special files become empty regular files.
    pub(super) fn forces_mask(&self) -> bool {
        self.force_mask.is_some()
    }

    /// What the file of `entry`, at `path`, gets. Takes the entry's extended attributes.
    ///
    /// # Errors
    /// `InvalidArchive` when the owner has no id on the host.
    pub(super) fn metadata(&self, entry: &mut Entry, path: &Path) -> Result<Metadata> {
        let owner = self.host_owner(entry.owner, path)?;
        let xattrs = self.host_xattrs(std::mem::take(&mut entry.xattrs), path)?;
        let mut metadata = Metadata {
            owner,
            mode: (entry.kind != EntryKind::Symlink).then_some(entry.mode),
            xattrs,
            times: Some(Times::of(entry)),
            inherited_acl: false,
        };
        let stored = OverrideStat {
            owner: owner.unwrap_or(entry.owner),
            mode: entry.mode,
            file_type: Some(override_type(entry)),
        };
        self.mask(&mut metadata, stored);
        Ok(metadata)
    }

    /// What a directory gets that no entry and no layer below describes.
    ///
    /// # Errors
    /// `InvalidArgument` when the container's root has no id on the host.
    pub(super) fn default_directory(&self) -> Result<Metadata> {
        let owner = match self.id_maps.root() {
            // No entry asks for this owner, so whoever cannot give files away keeps the directory.
            _ if !self.may_chown => None,
            Ok(owner) => Some(owner),
            Err(_) if self.ignore_chown_errors => None,
            Err(error) => return Err(error),
        };
        let mut metadata =
            Metadata { owner, mode: Some(0o755), xattrs: Vec::new(), times: None, inherited_acl: false };
        let file_type = Some(OverrideType::Directory);
        self.mask(&mut metadata, OverrideStat { owner: owner.unwrap_or_default(), mode: 0o755, file_type });
        Ok(metadata)
    }

    /// What a directory gets that looks, in the layers below, as `metadata` says.
    pub(super) fn like_below(&self, mut metadata: Metadata) -> Metadata {
        let stored = OverrideStat {
            owner: metadata.owner.unwrap_or_default(),
            mode: metadata.mode.unwrap_or(0o755),
            file_type: Some(OverrideType::Directory),
        };
        self.mask(&mut metadata, stored);
        metadata
    }

    /// The owner to store for an owner in the archive; `None` to leave what creation gives.
    ///
    /// # Errors
    /// `InvalidArchive` when the owner has no id on the host.
    pub(super) fn host_owner(&self, owner: Owner, path: &Path) -> Result<Option<Owner>> {
        match self.id_maps.to_host(owner) {
            Some(owner) => Ok(Some(owner)),
            None if self.ignore_chown_errors => Ok(None),
            None => Err(Error::invalid_archive(format!("owner {owner} has no id on the host: {SUBID_HINT}"))
                .path(path)),
        }
    }

    /// The attributes to store: those that travel, with the host's ids where they hold ids.
    fn host_xattrs(&self, mut xattrs: Vec<Xattr>, path: &Path) -> Result<Vec<Xattr>> {
        xattrs.retain(|xattr| travels(xattr.name.to_bytes()) && self.obeyed != Some(xattr.name.as_c_str()));
        if self.id_maps.is_identity() {
            return Ok(xattrs);
        }
        let maps = &self.id_maps;
        let ids = IdTranslation { uid: &|uid| maps.uid_to_host(uid), gid: &|gid| maps.gid_to_host(gid) };
        let mut translated = Vec::with_capacity(xattrs.len());
        for xattr in xattrs {
            match xattr.translate(&ids) {
                Some(xattr) => translated.push(xattr),
                None if self.ignore_chown_errors => {}
                None => {
                    let detail = format!("an ACL names an id that is none on the host: {SUBID_HINT}");
                    return Err(Error::invalid_archive(detail).path(path));
                }
            }
        }
        Ok(translated)
    }

    /// Says once what was left out of the whole archive.
    pub(super) fn report(&self) {
        let (chowns, xattrs) =
            (self.ignored_chowns.load(Ordering::Relaxed), self.ignored_xattrs.load(Ordering::Relaxed));
        if chowns > 0 {
            tracing::warn!(files = chowns, "ignored owners that could not be set (ignore_chown_errors)");
        }
        if xattrs > 0 {
            tracing::warn!(
                count = xattrs,
                "ignored xattrs in archive: the file system or namespace does not take them"
            );
        }
    }

    fn mask(&self, metadata: &mut Metadata, stored: OverrideStat) {
        let Some(mask) = self.force_mask else { return };
        metadata.owner = None;
        if metadata.mode.is_some() {
            metadata.mode = Some(mask);
            let value = stored.to_string().into_bytes();
            metadata.xattrs.push(Xattr { name: override_stat::XATTR.to_owned(), value });
        }
    }

    fn chown(&self, target: Target<'_>, owner: Owner, path: &Path) -> Result<()> {
        match target.chown(owner) {
            Ok(()) => Ok(()),
            Err(Errno::EPERM | Errno::EINVAL) if self.ignore_chown_errors => {
                self.ignored_chowns.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(errno) => {
                let hint = if errno == Errno::EINVAL { SUBID_HINT } else { "cannot be made the owner" };
                Err(Error::syscall("fchownat", path, errno).detail(format!("{owner}: {hint}")))
            }
        }
    }

    fn set_xattr(&self, target: Target<'_>, xattr: &Xattr, path: &Path) -> Result<()> {
        match target.set_xattr(&xattr.name, &xattr.value) {
            Ok(()) => Ok(()),
            // Without it nothing says what the file is meant to be.
            Err(errno) if xattr.name.as_c_str() == override_stat::XATTR => {
                Err(Error::syscall("setxattr", path, errno).detail("user.containers.override_stat"))
            }
            Err(Errno::EOPNOTSUPP) => self.ignore_xattr(),
            Err(Errno::EPERM) if self.in_user_namespace => self.ignore_xattr(),
            Err(errno) => {
                Err(Error::syscall("setxattr", path, errno).detail(xattr.name.to_string_lossy().into_owned()))
            }
        }
    }

    // Returns what its callers return, so that ignoring reads as one arm beside the others.
    #[allow(clippy::unnecessary_wraps, reason = "an arm of a match that yields a Result")]
    fn ignore_xattr(&self) -> Result<()> {
        self.ignored_xattrs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl Metadata {
    /// Memory that the attributes take.
    pub(super) fn xattr_bytes(&self) -> usize {
        self.xattrs.iter().map(|xattr| xattr.name.count_bytes() + xattr.value.len()).sum()
    }

    /// Gives everything but times: owner first, as it takes away set-id bits and capabilities, then mode, then extended attributes.
    ///
    /// # Errors
    /// The kind of the failed system call.
    pub(super) fn set_access(&self, target: Target<'_>, path: &Path, rules: &Rules) -> Result<()> {
        let stat = target.stat().map_err(|errno| Error::syscall("fstat", path, errno))?;
        if self.inherited_acl {
            target.remove_acls().map_err(|errno| Error::syscall("removexattr", path, errno))?;
        }
        let given = Owner { uid: stat.st_uid, gid: stat.st_gid };
        let owner = self.owner.filter(|owner| *owner != given);
        if let Some(owner) = owner {
            rules.chown(target, owner, path)?;
        }
        let differs = |mode: u32| {
            stat.st_mode & 0o7777 != mode || self.inherited_acl || (owner.is_some() && mode & 0o6000 != 0)
        };
        if let Some(mode) = self.mode.filter(|mode| differs(*mode)) {
            target.chmod(mode).map_err(|errno| Error::syscall("fchmod", path, errno))?;
        }
        for xattr in &self.xattrs {
            rules.set_xattr(target, xattr, path)?;
        }
        Ok(())
    }

    /// Gives times too, which must come after all other changes.
    ///
    /// # Errors
    /// As [`set_access`](Self::set_access).
    pub(super) fn set(&self, target: Target<'_>, path: &Path, rules: &Rules) -> Result<()> {
        self.set_access(target, path, rules)?;
        let Some(times) = self.times else { return Ok(()) };
        target.set_times(times).map_err(|errno| Error::syscall("utimensat", path, errno))
    }
}

impl Times {
    fn of(entry: &Entry) -> Self {
        // The peers never let a file look as if it was read before it was written.
        let atime = entry.atime.unwrap_or(entry.mtime).max(entry.mtime);
        let spec = |time: Timestamp| TimeSpec::new(time.seconds, i64::from(time.nanoseconds));
        Self { atime: spec(atime), mtime: spec(entry.mtime) }
    }

    /// Those of a file.
    pub(super) fn of_stat(stat: &FileStat) -> Self {
        Self {
            atime: TimeSpec::new(stat.st_atime, stat.st_atime_nsec),
            mtime: TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec),
        }
    }
}

impl Target<'_> {
    fn stat(self) -> nix::Result<FileStat> {
        match self {
            Self::Open(fd) => fstat(fd),
            Self::Entry(dir, name) => fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW),
        }
    }

    fn chown(self, owner: Owner) -> nix::Result<()> {
        let (uid, gid) = (Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)));
        match self {
            Self::Open(fd) => fchown(fd, uid, gid),
            Self::Entry(dir, name) => fchownat(dir, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW),
        }
    }

    pub(super) fn chmod(self, mode: u32) -> nix::Result<()> {
        let mode = Mode::from_bits_truncate(mode);
        match self {
            Self::Open(fd) => fchmod(fd, mode),
            Self::Entry(dir, name) => fchmodat(dir, name, mode, FchmodatFlags::NoFollowSymlink),
        }
    }

    pub(super) fn set_xattr(self, name: &CStr, value: &[u8]) -> nix::Result<()> {
        match self {
            Self::Open(fd) => xattr::fset(fd, name, value, SetFlags::empty()),
            Self::Entry(dir, entry) => xattr::set_at(dir, entry, name, value, SetFlags::empty()),
        }
    }

    fn remove_acls(self) -> nix::Result<()> {
        for name in [c"system.posix_acl_access", c"system.posix_acl_default"] {
            let removed = match self {
                Self::Open(fd) => xattr::fremove(fd, name),
                Self::Entry(dir, entry) => xattr::remove_at(dir, entry, name),
            };
            match removed {
                // Only directories have default ACLs, and symbolic links have none at all.
                Ok(()) | Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::EACCES) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    pub(super) fn set_times(self, times: Times) -> nix::Result<()> {
        match self {
            Self::Open(fd) => futimens(fd, &times.atime, &times.mtime),
            Self::Entry(dir, name) => {
                utimensat(dir, name, &times.atime, &times.mtime, UtimensatFlags::NoFollowSymlink)
            }
        }
    }
}

/// Whether an extended attribute of the archive is set: labels are the policy's affair, overlay's own would hide or redirect files, and XFS's
/// form of an ACL would undo the mapping of ids.
pub(super) fn travels(name: &[u8]) -> bool {
    name != b"security.selinux" && !whiteout::is_overlay_xattr(name) && !name.starts_with(XFS_ACL_PREFIX)
}

/// Whether this process can give files to others.
pub(crate) fn may_chown() -> bool {
    has_effective(Capability::Chown).unwrap_or(false)
}

fn override_type(entry: &Entry) -> OverrideType {
    let (major, minor) = entry.device;
    match entry.kind {
        EntryKind::Regular | EntryKind::Link => OverrideType::File,
        EntryKind::Symlink => OverrideType::Symlink,
        EntryKind::CharDevice => OverrideType::CharDevice { major, minor },
        EntryKind::BlockDevice => OverrideType::BlockDevice { major, minor },
        EntryKind::Directory => OverrideType::Directory,
        EntryKind::Fifo => OverrideType::Fifo,
    }
}
