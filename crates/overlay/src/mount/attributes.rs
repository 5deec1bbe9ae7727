//! Mount options that callers may give: those of any mount, not overlay's own.

use graphdriver_core::{Error, ErrorKind, Result};
use graphdriver_sys::mount_api::MountAttrFlags;
use nix::mount::MsFlags;

/// Read-only, no devices and so on, for either way of mounting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) flags: MountAttrFlags,
    pub(crate) classic: MsFlags,
}

/// The options that are taken, as `mount(8)` spells them.
const KNOWN: [(&str, MountAttrFlags, MsFlags); 8] = [
    ("ro", MountAttrFlags::RDONLY, MsFlags::MS_RDONLY),
    ("nosuid", MountAttrFlags::NOSUID, MsFlags::MS_NOSUID),
    ("nodev", MountAttrFlags::NODEV, MsFlags::MS_NODEV),
    ("noexec", MountAttrFlags::NOEXEC, MsFlags::MS_NOEXEC),
    ("noatime", MountAttrFlags::NOATIME, MsFlags::MS_NOATIME),
    ("strictatime", MountAttrFlags::STRICTATIME, MsFlags::MS_STRICTATIME),
    ("nodiratime", MountAttrFlags::NODIRATIME, MsFlags::MS_NODIRATIME),
    // What the kernel does when nothing is said.
    ("relatime", MountAttrFlags::empty(), MsFlags::MS_RELATIME),
];

/// Options that say what is so anyway.
const DEFAULTS: [&str; 7] = ["defaults", "rw", "suid", "dev", "exec", "atime", "diratime"];

impl Attributes {
    pub(crate) const NONE: Self = Self { flags: MountAttrFlags::empty(), classic: MsFlags::empty() };

    /// The attributes that `options` name, and [`read_only`](Self::is_read_only) if that is set.
    ///
    /// # Errors
    /// `InvalidArgument` naming the option that is not known, and all that are; and when two of the access-time options are given.
    pub(crate) fn parse(read_only: bool, options: &[String]) -> Result<Self> {
        let mut attributes = Self::NONE;
        let given = read_only.then_some("ro").into_iter().chain(options.iter().map(String::as_str));
        for option in given.filter(|option| !DEFAULTS.contains(option)) {
            let Some((_, flags, classic)) = KNOWN.iter().find(|(name, ..)| *name == option) else {
                return Err(unknown(option));
            };
            attributes.flags |= *flags;
            attributes.classic |= *classic;
        }
        let both = MsFlags::MS_NOATIME | MsFlags::MS_STRICTATIME;
        if attributes.classic.contains(both) {
            return Err(invalid("noatime and strictatime exclude each other".to_owned()));
        }
        Ok(attributes)
    }

    pub(crate) fn is_read_only(self) -> bool {
        self.flags.contains(MountAttrFlags::RDONLY)
    }
}

fn unknown(option: &str) -> Error {
    let known: Vec<&str> = KNOWN.iter().map(|(name, ..)| *name).chain(DEFAULTS).collect();
    invalid(format!("unknown option {option:?}; known are {}", known.join(", ")))
}

fn invalid(detail: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, "parse mount options").detail(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(read_only: bool, options: &[&str]) -> Result<Attributes> {
        Attributes::parse(read_only, &options.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn known_options_in_both_forms() {
        let attributes = parse(false, &["nodev", "noatime", "rw"]).unwrap();
        assert_eq!(attributes.flags, MountAttrFlags::NODEV | MountAttrFlags::NOATIME);
        assert_eq!(attributes.classic, MsFlags::MS_NODEV | MsFlags::MS_NOATIME);
        assert!(!attributes.is_read_only());
        assert_eq!(parse(false, &[]).unwrap(), Attributes::NONE);
    }

    #[test]
    fn read_only_either_way() {
        assert!(parse(true, &[]).unwrap().is_read_only());
        assert!(parse(false, &["ro"]).unwrap().is_read_only());
    }

    #[test]
    fn unknown_and_contradicting_options_are_refused() {
        for options in [
            &["bind"][..],
            &["lowerdir=/etc"],
            &[""],
            &["RO"],
            &["nodev,nosuid"],
            &["noatime", "strictatime"],
        ] {
            assert_eq!(parse(false, options).unwrap_err().kind(), ErrorKind::InvalidArgument, "{options:?}");
        }
    }
}
