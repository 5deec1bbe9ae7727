//! Limits of layers.
//!
//! The file system counts what the subvolume of each layer refers to, its parent's files too, as the Go drivers have it. Where its quotas are off they are turned on for the first layer that is to be
//! limited, or when the home is opened with an option for limits.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use graphdriver_archive::RootDir;
use graphdriver_core::trees::{list_ids, make_dirs};
use graphdriver_core::{CreateOptions, Error, ErrorKind, LayerId, Quota, Result, format_size, write_atomic};
use graphdriver_sys::btrfs::qgroup::{self, Counting};
use graphdriver_sys::capability::{Capability, has_effective};
use graphdriver_sys::user_namespace;
use nix::errno::Errno;

use crate::options::BtrfsOptions;

/// The limits of the layers of one home.
#[derive(Debug)]
pub(crate) struct Quotas {
    /// `<home>/quotas`: for each layer that is limited a file with the bytes.
    dir: PathBuf,
    /// A directory of the file system.
    volume: RootDir,
    options: BtrfsOptions,
    unavailable: Option<Unavailable>,
}

/// Why layers cannot be limited.
#[derive(Debug)]
pub(crate) enum Unavailable {
    UserNamespace,
    Privilege,
    Failed(Errno),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UserNamespace => {
                f.write_str("quotas of btrfs cannot be set from a user namespace; run as root of the machine")
            }
            Self::Privilege => f.write_str("setting quotas of btrfs needs CAP_SYS_ADMIN; run as root"),
            Self::Failed(errno) => write!(f, "the file system does not tell its quotas: {}", errno.desc()),
        }
    }
}

impl Quotas {
    /// Those of the existing directory `home`.
    ///
    /// # Errors
    /// As [`probe`](Self::probe); `Io`.
    pub(crate) fn open(home: &Path, options: BtrfsOptions) -> Result<Self> {
        let volume = RootDir::open(home)?;
        let unavailable = find_obstacle(&volume);
        let quotas = Self { dir: home.join("quotas"), volume, options, unavailable };
        if options.limits() {
            quotas.require_options()?;
            quotas.enable()?;
        }
        Ok(quotas)
    }

    /// Whether a home below the directory `dir` could be opened.
    ///
    /// # Errors
    /// `InvalidArgument` when the options have limits that cannot be had; not `NotSupported`, for which another driver would be taken, and the limits that were asked for left out.
    pub(crate) fn probe(dir: &Path, options: BtrfsOptions) -> Result<()> {
        let volume = RootDir::open(dir)?;
        let unavailable = find_obstacle(&volume);
        Self { dir: PathBuf::new(), volume, options, unavailable }.require_options()
    }

    fn require_options(&self) -> Result<()> {
        match &self.unavailable {
            Some(reason) if self.options.limits() => {
                Err(refused(ErrorKind::InvalidArgument, "open home", reason))
            }
            _ => Ok(()),
        }
    }

    /// Why layers cannot be limited; `None` when they can.
    pub(crate) fn unavailable(&self) -> Option<&Unavailable> {
        self.unavailable.as_ref()
    }

    /// For people: whether limits are in force, and what counts.
    pub(crate) fn status(&self) -> String {
        if let Some(reason) = &self.unavailable {
            return format!("false: {reason}");
        }
        match qgroup::is_enabled(&self.volume) {
            Ok(true) => match qgroup::counting(&self.volume) {
                Some(Counting::Owned) => "true (simple)".to_owned(),
                Some(Counting::Shared) | None => "true".to_owned(),
            },
            Ok(false) => "false: off until a layer is limited".to_owned(),
            Err(errno) => format!("false: {}", errno.desc()),
        }
    }

    /// The limit of a new layer in bytes, if it has one.
    ///
    /// # Errors
    /// `InvalidArgument` for limits of a layer that is not read-write, and for one below the least; `NotSupported` for limits that cannot be had.
    pub(crate) fn limit_of(&self, options: &CreateOptions) -> Result<Option<u64>> {
        let defaults = Quota { bytes: self.options.size, inodes: None };
        let Some(limits) = options.limits(defaults)? else { return Ok(None) };
        let is_limited = |limit: &u64| *limit > 0;
        if limits.inodes.as_ref().is_some_and(is_limited) {
            return Err(Error::new(ErrorKind::NotSupported, "create")
                .detail(format!("inodes of layers cannot be limited: {NO_INODES}")));
        }
        let Some(bytes) = limits.bytes.filter(is_limited) else { return Ok(None) };
        if let Some(least) = self.options.min_space.filter(|least| bytes < *least) {
            let detail = format!("storage size cannot be less than {} (btrfs.min_space)", format_size(least));
            return Err(Error::new(ErrorKind::InvalidArgument, "create").detail(detail));
        }
        match &self.unavailable {
            Some(reason) => Err(refused(ErrorKind::NotSupported, "create", reason)),
            None => Ok(Some(bytes)),
        }
    }

    /// Limits the subvolume `root`, or lifts what a snapshot has from its parent.
    ///
    /// # Errors
    /// `NoSpace`, `Io`.
    pub(crate) fn begin(&self, root: &RootDir, limit: Option<u64>) -> Result<()> {
        if limit.is_some() {
            self.enable()?;
        }
        match qgroup::set_limit(root, 0, limit) {
            // Where quotas are off there is no limit, and who may not lift a limit cannot have set it.
            Err(Errno::ENOTCONN | Errno::EPERM) if limit.is_none() => Ok(()),
            result => result.map_err(|errno| Error::syscall("limit subvolume", root.path(), errno)),
        }
    }

    /// Limits the layer again as noted, should its quotas have been turned off and on meanwhile.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn renew(&self, id: &LayerId, layer: &Path) -> Result<()> {
        let Some(bytes) = self.noted(id)? else { return Ok(()) };
        if let Some(reason) = &self.unavailable {
            tracing::debug!(layer = %id, %reason, "the limit is left as it is");
            return Ok(());
        }
        self.begin(&RootDir::open(layer)?, Some(bytes.max(self.options.min_space.unwrap_or(0))))
    }

    /// Turns the file system's quotas on and waits until what is there is counted.
    fn enable(&self) -> Result<()> {
        let failed = |call| move |errno| Error::syscall(call, self.volume.path(), errno);
        if qgroup::is_enabled(&self.volume).map_err(failed("look for quotas"))? {
            return Ok(());
        }
        tracing::info!(volume = ?self.volume.path(), "turning the quotas of the file system on");
        qgroup::enable(&self.volume, Counting::Shared).map_err(failed("turn quotas on"))?;
        qgroup::wait_for_rescan(&self.volume).map_err(failed("wait for quotas"))
    }

    /// Where the layer's limit is noted.
    pub(crate) fn path(&self, id: &LayerId) -> PathBuf {
        self.dir.join(id)
    }

    /// The layer's limit, as noted by whoever made it.
    pub(crate) fn noted(&self, id: &LayerId) -> Result<Option<u64>> {
        let path = self.path(id);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|error| Error::io("read", &path, error))?,
        };
        let bytes = text.trim_end().parse().ok();
        if bytes.is_none() {
            tracing::warn!(?path, "no number of bytes; the layer counts as one without limit");
        }
        Ok(bytes)
    }

    /// Notes the limit of a layer, or that it has none.
    pub(crate) fn note(&self, id: &LayerId, limit: Option<u64>) -> Result<()> {
        let Some(bytes) = limit else { return self.forget(id) };
        make_dirs(&self.dir, 0o700)?;
        let dir = File::open(&self.dir).map_err(|error| Error::io("open", &self.dir, error))?;
        write_atomic(&dir, id.as_str(), bytes.to_string().as_bytes(), 0o644)
    }

    pub(crate) fn forget(&self, id: &LayerId) -> Result<()> {
        let path = self.path(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("unlink", path, error)),
            _ => Ok(()),
        }
    }

    /// The noted limits.
    pub(crate) fn list(&self) -> Result<Vec<LayerId>> {
        if !self.dir.is_dir() {
            return Ok(Vec::new());
        }
        Ok(list_ids(&self.dir)?.into_iter().map(|(id, _)| id).collect())
    }
}

/// Why inodes of layers cannot be limited.
pub(crate) const NO_INODES: &str = "btrfs limits space only";

/// Names the limit, if `error` may come from it.
pub(crate) fn explain(error: Error, limit: Option<u64>) -> Error {
    match limit {
        Some(bytes) if error.kind() == ErrorKind::NoSpace => error
            .detail(format!("the layer is limited to {}, its parent's files included", format_size(bytes))),
        _ => error,
    }
}

fn find_obstacle(volume: &RootDir) -> Option<Unavailable> {
    if user_namespace::in_initial().is_ok_and(|initial| !initial) {
        return Some(Unavailable::UserNamespace);
    }
    // Where a sandbox keeps the answer back, the file system tells.
    if has_effective(Capability::SysAdmin) == Ok(false) {
        return Some(Unavailable::Privilege);
    }
    match qgroup::is_enabled(volume) {
        Ok(_) => None,
        Err(Errno::EPERM | Errno::EACCES) => Some(Unavailable::Privilege),
        Err(errno) => Some(Unavailable::Failed(errno)),
    }
}

fn refused(kind: ErrorKind, operation: &'static str, reason: &Unavailable) -> Error {
    Error::new(kind, operation).detail(format!("size of layers cannot be limited: {reason}"))
}
