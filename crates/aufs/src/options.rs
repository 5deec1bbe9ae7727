//! What can be chosen when a home is opened.

use graphdriver_core::{DriverOption, Error, ErrorKind, Result, SyncMode};
use nix::mount::MsFlags;

/// The driver options, as `aufs.key=value`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AufsOptions {
    /// Passed on to AUFS with every mount.
    pub(crate) mount_options: Option<String>,
    /// Whether contents are flushed before a layer counts as complete.
    pub(crate) sync: SyncMode,
}

impl AufsOptions {
    /// # Errors
    /// `InvalidArgument` for an unknown key, naming those that are known, and for a value that makes no sense.
    pub(crate) fn parse(options: &[DriverOption]) -> Result<Self> {
        let mut parsed = Self::default();
        for option in options {
            match option.key() {
                "mountopt" => {
                    parsed.mount_options = Some(option.value().to_owned()).filter(|text| !text.is_empty());
                }
                "sync" => parsed.sync = option.parse_sync_mode()?,
                _ => return Err(option.unknown(&["mountopt", "sync"])),
            }
        }
        Ok(parsed)
    }
}

/// Options of any mount, whatever its file system, by the words of `mount(8)`.
const WORDS: [(&str, MsFlags); 8] = [
    ("ro", MsFlags::MS_RDONLY),
    ("rw", MsFlags::empty()),
    ("nosuid", MsFlags::MS_NOSUID),
    ("nodev", MsFlags::MS_NODEV),
    ("noexec", MsFlags::MS_NOEXEC),
    ("noatime", MsFlags::MS_NOATIME),
    ("nodiratime", MsFlags::MS_NODIRATIME),
    ("relatime", MsFlags::MS_RELATIME),
];

/// The flags that the caller of a mount asks for.
///
/// # Errors
/// `InvalidArgument` for any other option: AUFS's own are given when the home is opened.
pub(crate) fn parse_flags(options: &[String]) -> Result<MsFlags> {
    let mut flags = MsFlags::empty();
    for option in options.iter().flat_map(|text| text.split(',')).map(str::trim) {
        let Some((_, flag)) = WORDS.iter().find(|(word, _)| *word == option) else {
            let known = WORDS.map(|(word, _)| word).join(", ");
            return Err(Error::new(ErrorKind::InvalidArgument, "mount")
                .detail(format!("unknown mount option {option:?}; known are: {known}")));
        };
        flags |= *flag;
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Result<AufsOptions> {
        let options: Vec<DriverOption> = texts.iter().map(|text| text.parse().unwrap()).collect();
        AufsOptions::parse(&options)
    }

    #[test]
    fn options() {
        assert_eq!(parse(&[]).unwrap(), AufsOptions::default());
        let parsed = parse(&["aufs.mountopt=noatime,dirs", "sync=filesystem"]).unwrap();
        assert_eq!(parsed.mount_options.as_deref(), Some("noatime,dirs"));
        assert_eq!(parsed.sync, SyncMode::Filesystem);
        assert_eq!(parse(&["aufs.mountopt="]).unwrap(), AufsOptions::default());
        for text in ["aufs.size=1g", "aufs.sync=all"] {
            assert_eq!(parse(&[text]).unwrap_err().kind(), ErrorKind::InvalidArgument, "{text}");
        }
    }

    #[test]
    fn flags() {
        let parse = |text: &str| parse_flags(&[text.to_owned()]);
        assert_eq!(parse("ro, nodev").unwrap(), MsFlags::MS_RDONLY | MsFlags::MS_NODEV);
        assert_eq!(parse("rw").unwrap(), MsFlags::empty());
        for text in ["", "br=x", "ro,xino=/x"] {
            assert_eq!(parse(text).unwrap_err().kind(), ErrorKind::InvalidArgument, "{text}");
        }
    }
}
