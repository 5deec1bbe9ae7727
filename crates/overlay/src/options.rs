//! What can be set about the driver.

use std::io;
use std::path::PathBuf;

use graphdriver_archive::whiteout::OverlayXattrs;
use graphdriver_core::{DriverOption, Error, Quota, Result, SyncMode};

use nix::unistd::{AccessFlags, access};

use crate::layer_store::LayerStore;
use crate::mask;
use crate::mount::{Dialect, IdMapping, MountApi, MountRequest, Parameters, Shape, Wishes};

/// The keys that are known.
const KNOWN: [&str; 14] = [
    "additionalimagestore",
    "additionallayerstore",
    "disable_idmap",
    "force_mask",
    "ignore_chown_errors",
    "imagestore",
    "inodes",
    "mount_program",
    "mountopt",
    "override_kernel_check",
    "size",
    "skip_mount_home",
    "sync",
    "use_composefs",
];

/// The options of the driver, as given by `overlay.KEY=VALUE`. The last of several values counts, but stores add up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent options, each asked for by name")]
pub(crate) struct OverlayOptions {
    /// Mount options for every mount, in the order given.
    pub(crate) mount_options: Vec<String>,
    /// Limits of read-write layers that are created without their own.
    pub(crate) quota: Quota,
    /// Roots of other homes whose layers are used, not written.
    pub(crate) image_stores: Vec<PathBuf>,
    /// Directories in which other programs show layers.
    pub(crate) layer_stores: Vec<LayerStore>,
    /// Keep a layer's metadata in an EROFS image, its contents by digest.
    pub(crate) use_composefs: bool,
    /// The program that mounts instead of the kernel.
    pub(crate) mount_program: Option<PathBuf>,
    /// Accepted for containers/storage's sake: the home is never mounted on itself here.
    pub(crate) skip_mount_home: bool,
    /// Keep the calling process's ids where the owner of a file cannot be set: for user namespaces with a single id.
    pub(crate) ignore_chown_errors: bool,
    /// Show owners as they are on disk, whatever maps a mount is asked for with: what containers/storage takes from its environment.
    pub(crate) disable_idmap: bool,
    /// Mode of every file on disk, the real one being noted in an attribute.
    pub(crate) force_mask: Option<u32>,
    /// Whether contents are flushed before a filled layer counts as complete.
    pub(crate) sync: SyncMode,
}

impl OverlayOptions {
    /// # Errors
    /// `InvalidArgument` for a key that is not known, naming those that are, and for a value that does not fit; `Io` for a store or program
    /// that cannot be looked at.
    pub(crate) fn parse(options: &[DriverOption]) -> Result<Self> {
        let mut parsed = Self::default();
        for option in options {
            parsed.set(option)?;
        }
        // A mount program has options of its own.
        if parsed.mount_program.is_none() {
            MountRequest::parse(&parsed.mount_options)?;
        }
        Ok(parsed)
    }

    fn set(&mut self, option: &DriverOption) -> Result<()> {
        match option.key() {
            "additionallayerstore" => self.layer_stores.extend(LayerStore::parse_list(option)?),
            "disable_idmap" => self.disable_idmap = option.parse_bool()?,
            "force_mask" => self.force_mask = parse_mask(option)?,
            "ignore_chown_errors" => self.ignore_chown_errors = option.parse_bool()?,
            "imagestore" | "additionalimagestore" => self.image_stores.extend(option.parse_dirs()?),
            "inodes" => self.quota.inodes = Some(option.parse_u64()?),
            "mount_program" => self.mount_program = parse_program(option)?,
            "mountopt" => self.mount_options = option.list().map(str::to_owned).collect(),
            "override_kernel_check" => {
                option.parse_bool()?;
                tracing::warn!(
                    "override_kernel_check has no effect: what the kernel can do is found by trying"
                );
            }
            "size" => self.quota.bytes = Some(option.parse_size()?),
            "skip_mount_home" => self.skip_mount_home = option.parse_bool()?,
            "sync" => self.sync = option.parse_sync_mode()?,
            "use_composefs" => self.use_composefs = option.parse_bool()?,
            _ => return Err(option.unknown(&KNOWN)),
        }
        Ok(())
    }

    /// Tells now, not at the first mount, whether the options of all mounts make sense.
    ///
    /// # Errors
    /// `InvalidArgument` for a mount option that is not known, or does not go with another; `NotSupported` for one that cannot be had in a user namespace.
    pub(crate) fn check_mounts(&self, dialect: Dialect) -> Result<()> {
        if self.mount_program.is_some() {
            return Ok(());
        }
        let wishes = MountRequest::parse(&self.mount_options)?.wishes;
        // Dropped with a warning at each mount, where it cannot be had.
        let wishes =
            Wishes { metacopy: wishes.metacopy.filter(|_| dialect.xattrs != OverlayXattrs::User), ..wishes };
        let shape = Shape { upper: true, data_only: self.use_composefs };
        Parameters::new(&wishes, dialect, shape).map(drop)
    }

    /// # Errors
    /// `NotSupported` for what is known but cannot be had.
    pub(crate) fn check_supported(&self) -> Result<()> {
        mask::require_reader(self.force_mask, self.mount_program.as_deref())
    }
}

/// `shared`, `private`, or an octal mode; nothing for none.
fn parse_mask(option: &DriverOption) -> Result<Option<u32>> {
    match option.value() {
        "" => Ok(None),
        "shared" => Ok(Some(0o755)),
        "private" => Ok(Some(0o700)),
        text => match u32::from_str_radix(text, 8) {
            Ok(mask) if mask <= 0o7777 => Ok(Some(mask)),
            _ => Err(option.invalid_value("is neither shared, private nor an octal mode")),
        },
    }
}

/// A program that can be started, by its absolute path; nothing for none.
fn parse_program(option: &DriverOption) -> Result<Option<PathBuf>> {
    if option.value().is_empty() {
        return Ok(None);
    }
    let path = PathBuf::from(option.value());
    if !path.is_absolute() {
        return Err(option.invalid_value("is not absolute").path(path));
    }
    let metadata = path.metadata().map_err(|error| Error::io("stat", &path, error))?;
    if !metadata.is_file() {
        return Err(option.invalid_value("is no program").path(path));
    }
    match access(&path, AccessFlags::X_OK) {
        Ok(()) => Ok(Some(path)),
        Err(errno) => {
            Err(option.invalid_value("cannot be started").path(path).source(io::Error::from(errno)))
        }
    }
}

/// Choices that the driver otherwise makes by itself, for tests that want each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OverlayTuning {
    /// How mounts are made; `None` for the best way that the kernel has.
    pub mount_api: Option<MountApi>,
    /// How lower directories get other owners than they have on disk; `None` for the best way that the kernel has.
    pub id_mapping: Option<IdMapping>,
    /// Diffs come from the layer's own directory where they can; otherwise two mounts are always compared.
    pub native_diff: bool,
}

impl Default for OverlayTuning {
    fn default() -> Self {
        Self { mount_api: None, id_mapping: None, native_diff: true }
    }
}

#[cfg(test)]
mod tests {
    use graphdriver_core::ErrorKind;

    use super::*;

    fn parse(texts: &[&str]) -> Result<OverlayOptions> {
        let options: Vec<DriverOption> = texts.iter().map(|text| text.parse().unwrap()).collect();
        OverlayOptions::parse(&options)
    }

    fn store(path: &str, with_reference: bool) -> LayerStore {
        LayerStore { path: path.into(), with_reference }
    }

    #[test]
    fn valid_values() {
        let none = OverlayOptions::default;
        let quota = |bytes, inodes| OverlayOptions { quota: Quota { bytes, inodes }, ..none() };
        let table = [
            (
                "mountopt=nodev,metacopy=on",
                OverlayOptions {
                    mount_options: vec!["nodev".to_owned(), "metacopy=on".to_owned()],
                    ..none()
                },
            ),
            ("mountopt=", none()),
            ("size=50kb", quota(Some(51_200), None)),
            ("size=10G", quota(Some(10 << 30), None)),
            ("size=0", quota(Some(0), None)),
            ("inodes=1000", quota(None, Some(1000))),
            (
                "imagestore=/usr,/etc",
                OverlayOptions { image_stores: vec!["/usr".into(), "/etc".into()], ..none() },
            ),
            ("additionalimagestore=/usr", OverlayOptions { image_stores: vec!["/usr".into()], ..none() }),
            ("imagestore=", none()),
            (
                "additionallayerstore=/usr",
                OverlayOptions { layer_stores: vec![store("/usr", false)], ..none() },
            ),
            (
                "additionallayerstore=/usr:ref,/etc",
                OverlayOptions { layer_stores: vec![store("/usr", true), store("/etc", false)], ..none() },
            ),
            ("use_composefs=true", OverlayOptions { use_composefs: true, ..none() }),
            ("mount_program=/bin/sh", OverlayOptions { mount_program: Some("/bin/sh".into()), ..none() }),
            ("mount_program=", none()),
            ("skip_mount_home=true", OverlayOptions { skip_mount_home: true, ..none() }),
            ("ignore_chown_errors=T", OverlayOptions { ignore_chown_errors: true, ..none() }),
            ("disable_idmap=true", OverlayOptions { disable_idmap: true, ..none() }),
            ("force_mask=shared", OverlayOptions { force_mask: Some(0o755), ..none() }),
            ("force_mask=private", OverlayOptions { force_mask: Some(0o700), ..none() }),
            ("force_mask=", none()),
            ("force_mask=0750", OverlayOptions { force_mask: Some(0o750), ..none() }),
            ("sync=filesystem", OverlayOptions { sync: SyncMode::Filesystem, ..none() }),
            ("sync=none", none()),
            ("override_kernel_check=true", none()),
        ];
        for (text, expected) in table {
            for prefix in ["", ".", "overlay.", "overlay2."] {
                let text = format!("{prefix}{text}");
                assert_eq!(parse(&[&text]).unwrap(), expected, "{text}");
            }
        }
    }

    #[test]
    fn invalid_values() {
        let table = [
            ("mountopt=nodev,lowerdir=/etc", "the layers are the driver's business"),
            ("mountopt=nodev,dev", "exclude each other"),
            ("mountopt=fsync=0", "unknown option \"fsync=0\""),
            ("size=many", "is no size"),
            ("size=-1", "is no size"),
            ("inodes=many", "is no number"),
            ("inodes=-1", "is no number"),
            ("imagestore=usr", "is not absolute"),
            ("imagestore=/nonexistent", "/nonexistent"),
            ("additionalimagestore=/etc/passwd", "is not a directory"),
            ("additionallayerstore=usr", "is not absolute"),
            ("additionallayerstore=/nonexistent", "/nonexistent"),
            ("additionallayerstore=/etc/passwd", "is not a directory"),
            ("additionallayerstore=/usr:ref:ref", "has ref twice"),
            ("additionallayerstore=/usr:mode", "\"mode\""),
            ("use_composefs=maybe", "is neither true nor false"),
            ("mount_program=/nonexistent", "/nonexistent"),
            ("mount_program=sh", "is not absolute"),
            ("mount_program=/usr", "is no program"),
            ("mount_program=/etc/passwd", "cannot be started"),
            ("skip_mount_home=2", "is neither true nor false"),
            ("ignore_chown_errors=yes", "is neither true nor false"),
            ("disable_idmap=maybe", "is neither true nor false"),
            ("force_mask=public", "octal mode"),
            ("force_mask=0999", "octal mode"),
            ("force_mask=10000", "octal mode"),
            ("sync=all", "is no sync mode"),
            ("override_kernel_check=perhaps", "is neither true nor false"),
        ];
        for (text, part) in table {
            let error = parse(&[text]).unwrap_err();
            let message = error.report().to_string();
            assert!(matches!(error.kind(), ErrorKind::InvalidArgument | ErrorKind::Io), "{message}");
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn the_last_value_counts_and_stores_add_up() {
        let options = parse(&["ignore_chown_errors=1", "ignore_chown_errors=0", "size=1", "overlay.size=2"]);
        assert_eq!(
            options.unwrap(),
            OverlayOptions { quota: Quota { bytes: Some(2), inodes: None }, ..OverlayOptions::default() }
        );
        let options = parse(&["imagestore=/usr", "additionalimagestore=/etc"]).unwrap();
        assert_eq!(options.image_stores, [PathBuf::from("/usr"), PathBuf::from("/etc")]);
    }

    #[test]
    fn others_are_errors_that_name_the_known_ones() {
        let error = parse(&["overlay.ignore_chown_error=true"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        for key in KNOWN {
            assert!(error.to_string().contains(key), "{error}");
        }
    }
}
