//! What can be chosen when a home is opened.

use graphdriver_core::{DriverOption, Error, ErrorKind, Result, SyncMode};

/// The driver options, as `btrfs.key=value`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BtrfsOptions {
    /// Keep the calling process's ids where an owner cannot be set.
    pub(crate) ignore_chown_errors: bool,
    /// The smallest limit that a layer may be given, in bytes.
    pub(crate) min_space: Option<u64>,
    /// Limit of read-write layers that are created without their own, in bytes.
    pub(crate) size: Option<u64>,
    /// Whether contents are flushed before a layer counts as complete.
    pub(crate) sync: SyncMode,
}

const KNOWN: [&str; 4] = ["ignore_chown_errors", "min_space", "size", "sync"];

impl BtrfsOptions {
    /// Whether they are about limits, for which the file system's quotas have to be on.
    pub(crate) fn limits(&self) -> bool {
        self.min_space.is_some_and(|bytes| bytes > 0) || self.size.is_some_and(|bytes| bytes > 0)
    }

    /// # Errors
    /// `InvalidArgument` for an unknown key, naming those that are known, and for a value that makes no sense.
    pub(crate) fn parse(options: &[DriverOption]) -> Result<Self> {
        let mut parsed = Self::default();
        for option in options {
            match option.key() {
                "ignore_chown_errors" => parsed.ignore_chown_errors = option.parse_bool()?,
                "min_space" => parsed.min_space = Some(option.parse_size()?),
                "size" => parsed.size = Some(option.parse_size()?),
                "sync" => parsed.sync = option.parse_sync_mode()?,
                "inodes" => {
                    return Err(option.invalid_value(
                        "cannot be had: inodes of layers cannot be limited: btrfs limits space only",
                    ));
                }
                "mountopt" => return Err(no_mount_options()),
                _ => return Err(option.unknown(&KNOWN)),
            }
        }
        Ok(parsed)
    }
}

/// The error for mount options: nothing is mounted that could have them.
pub(crate) fn no_mount_options() -> Error {
    Error::new(ErrorKind::InvalidArgument, "mount").detail("btrfs driver does not support mount options")
}
