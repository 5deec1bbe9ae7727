//! What can be chosen when a home is opened.

use graphdriver_archive::CopyMethod;
use graphdriver_core::{DriverOption, Error, ErrorKind, Quota, Result, SyncMode};

/// The driver options, as `vfs.key=value`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct VfsOptions {
    /// Keep the calling process's ids where an owner cannot be set.
    pub(crate) ignore_chown_errors: bool,
    /// Limits of read-write layers that are created without their own.
    pub(crate) quota: Quota,
    /// Whether contents are flushed before a layer counts as complete.
    pub(crate) sync: SyncMode,
}

const KNOWN: [&str; 4] = ["ignore_chown_errors", "inodes", "size", "sync"];

impl VfsOptions {
    /// # Errors
    /// `InvalidArgument` for an unknown key, naming those that are known, and for a value that makes no sense.
    pub(crate) fn parse(options: &[DriverOption]) -> Result<Self> {
        let mut parsed = Self::default();
        for option in options {
            match option.key() {
                "ignore_chown_errors" => parsed.ignore_chown_errors = option.parse_bool()?,
                "inodes" => parsed.quota.inodes = Some(option.parse_u64()?),
                "size" => parsed.quota.bytes = Some(option.parse_size()?),
                "sync" => parsed.sync = option.parse_sync_mode()?,
                "mountopt" => return Err(no_mount_options()),
                _ => return Err(option.unknown(&KNOWN)),
            }
        }
        Ok(parsed)
    }
}

/// The error for mount options, which a driver that does not mount cannot honour.
pub(crate) fn no_mount_options() -> Error {
    Error::new(ErrorKind::InvalidArgument, "mount").detail("vfs driver does not support mount options")
}

/// Choices that the driver otherwise makes by itself, for tests that want each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VfsTuning {
    /// How file contents get from a parent to its child.
    pub copy: CopyMethod,
}

impl VfsTuning {
    /// Copies by this method.
    #[must_use]
    pub fn copying(mut self, method: CopyMethod) -> Self {
        self.copy = method;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Result<VfsOptions> {
        let options: Vec<DriverOption> = texts.iter().map(|text| text.parse().unwrap()).collect();
        VfsOptions::parse(&options)
    }

    #[test]
    fn known_options() {
        assert_eq!(parse(&[]).unwrap(), VfsOptions::default());
        assert_eq!(
            parse(&["vfs.ignore_chown_errors=true"]).unwrap(),
            VfsOptions { ignore_chown_errors: true, ..VfsOptions::default() }
        );
        assert_eq!(
            parse(&["vfs.size=50kb", "inodes=7"]).unwrap().quota,
            Quota { bytes: Some(51_200), inodes: Some(7) }
        );
        assert_eq!(
            parse(&["sync=filesystem"]).unwrap(),
            VfsOptions { sync: SyncMode::Filesystem, ..VfsOptions::default() }
        );
        assert_eq!(
            parse(&["ignore_chown_errors=1", ".ignore_chown_errors=0"]).unwrap(),
            VfsOptions::default()
        );
    }

    #[test]
    fn others_are_refused_with_what_is_known() {
        for (text, part) in [
            ("vfs.sise=5g", "known options are: ignore_chown_errors, inodes, size, sync"),
            ("vfs.size=much", "is no size"),
            ("vfs.inodes=-1", "is no number"),
            ("vfs.sync=all", "is no sync mode"),
            ("vfs.mountopt=nodev", "vfs driver does not support mount options"),
            ("vfs.ignore_chown_errors=perhaps", "is neither true nor false"),
        ] {
            let error = parse(&[text]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{text}");
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
