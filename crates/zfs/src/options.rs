//! What can be chosen when a home is opened.

use graphdriver_core::{DriverOption, Quota, Result};

use crate::dataset::Dataset;
use crate::mount_options::MountWords;

/// The driver options, as `zfs.key=value`.
#[derive(Clone, Debug, Default)]
pub(crate) struct ZfsOptions {
    /// The dataset that layers are made below; found by the home's place where none is given.
    pub(crate) parent: Option<Dataset>,
    /// For every mount of a layer.
    pub(crate) mount: MountWords,
    /// Limits of read-write layers that are created without their own.
    pub(crate) quota: Quota,
}

/// A choice that the driver otherwise makes by itself, for tests that want each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ZfsTuning {
    /// Everything is asked of the programs, also what the feature `libzfs` would ask in process.
    pub programs_only: bool,
}

impl ZfsTuning {
    /// Without libzfs.
    #[must_use]
    pub fn by_programs_only(mut self) -> Self {
        self.programs_only = true;
        self
    }
}

const KNOWN: [&str; 3] = ["fsname", "mountopt", "size"];

impl ZfsOptions {
    /// # Errors
    /// `InvalidArgument` for an unknown key, naming those that are known, and for a value that makes no sense.
    pub(crate) fn parse(options: &[DriverOption]) -> Result<Self> {
        let mut parsed = Self::default();
        for option in options {
            let invalid = |what| move |error| option.invalid_value(what).source(error);
            match option.key() {
                "fsname" => {
                    let dataset = Dataset::new(option.value()).map_err(invalid("is no dataset"))?;
                    parsed.parent = Some(dataset);
                }
                "mountopt" => {
                    let words = MountWords::parse(option.list())
                        .map_err(invalid("has a word that is no mount option"))?;
                    parsed.mount = words;
                }
                "size" => parsed.quota.bytes = Some(option.parse_size()?),
                _ => return Err(option.unknown(&KNOWN)),
            }
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use graphdriver_core::ErrorKind;

    use super::*;

    fn parse(texts: &[&str]) -> Result<ZfsOptions> {
        let options: Vec<DriverOption> = texts.iter().map(|text| text.parse().unwrap()).collect();
        ZfsOptions::parse(&options)
    }

    #[test]
    fn known_options() {
        let options =
            parse(&["zfs.fsname=tank/graph", "zfs.mountopt=nodev,noatime", "zfs.size=50kb"]).unwrap();
        assert_eq!(options.parent.unwrap().as_str(), "tank/graph");
        assert_eq!(options.mount.to_string(), "noatime,nodev");
        assert_eq!(options.quota.bytes, Some(51_200));
        assert!(parse(&[]).unwrap().parent.is_none());
    }

    #[test]
    fn others_are_refused_with_what_is_known() {
        for (text, part) in [
            ("zfs.sise=5g", "known options are: fsname, mountopt, size"),
            ("zfs.size=much", "is no size"),
            ("zfs.fsname=/tank", "is no dataset"),
            ("zfs.fsname=tank@snap", "is no dataset"),
            ("zfs.mountopt=nodev,odd", "\"odd\" is no mount option"),
        ] {
            let error = parse(&[text]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{text}");
            assert!(error.report().to_string().contains(part), "{}", error.report());
        }
    }
}
