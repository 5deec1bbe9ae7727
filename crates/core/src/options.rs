//! Driver options: `key=value`, parsed once into types.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};
use crate::size::parse_size;
use crate::sync_mode::SyncMode;

/// The drivers that an option can be meant for, compiled in or not. The names in one row mean one driver.
const FAMILIES: [&[&str]; 8] = [
    &["overlay", "overlay2"],
    &["overlay-hardlink"],
    &["btrfs"],
    &["zfs"],
    &["vfs"],
    &["aufs"],
    &["gear"],
    &["plugin"],
];

/// One driver option as given by `--storage-opt` or a configuration file: `overlay.size=10g`, `.size=10g` or `size=10g`.
///
/// What is before the first dot of the key says which driver the option is meant for; without it, it is meant for every driver. Keys are taken in lower case, white space around key and value is dropped, and the value may
/// have any character, `=` too.
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(alias = "ParseDriverOption")]
#[doc(alias = "ParseKeyValueOpt")]
#[doc(alias = "ParseStorageOptKeyValue")]
pub struct DriverOption {
    driver: Option<String>,
    key: String,
    value: String,
    text: String,
}

impl FromStr for DriverOption {
    type Err = Error;

    /// # Errors
    /// `InvalidArgument` for a text without `=` and for a prefix that names no driver.
    #[doc(alias = "ParseDriverOption")]
    #[doc(alias = "ParseKeyValueOpt")]
    fn from_str(text: &str) -> Result<Self> {
        let Some((key, value)) = text.split_once('=') else {
            return Err(invalid(format!("unable to parse key/value option: {text:?} has no '='")));
        };
        let key = key.trim().to_lowercase();
        let (driver, key) = key.split_once('.').unwrap_or(("", &key));
        if !driver.is_empty() && family(driver).is_none() {
            let known = FAMILIES.concat().join(", ");
            return Err(invalid(format!(
                "unknown driver {driver:?} in option {text:?}; known drivers are: {known}"
            )));
        }
        if key.is_empty() {
            return Err(invalid(format!("unable to parse key/value option: {text:?} has no key")));
        }
        Ok(Self {
            driver: Some(driver).filter(|driver| !driver.is_empty()).map(str::to_owned),
            key: key.to_owned(),
            value: value.trim().to_owned(),
            text: text.to_owned(),
        })
    }
}

impl DriverOption {
    /// The key without the driver, in lower case.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The value as text; may be empty.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The driver that this is meant for; `None` for every driver.
    pub fn driver(&self) -> Option<&str> {
        self.driver.as_deref()
    }

    /// Whether this is meant for the driver `name`; `overlay` and `overlay2` are the same one, and all of `plugin:` are `plugin`.
    pub fn is_for(&self, name: &str) -> bool {
        let name = name.split_once(':').map_or(name, |(kind, _)| kind);
        match self.driver() {
            None => true,
            Some(driver) => driver == name || family(driver).is_some_and(|family| family.contains(&name)),
        }
    }

    /// The value as a truth: `1`, `t`, `true` or `0`, `f`, `false`; words in lower case, upper case or with a capital.
    ///
    /// # Errors
    /// `InvalidArgument` for another value.
    #[doc(alias = "ParseBool")]
    pub fn parse_bool(&self) -> Result<bool> {
        match self.value() {
            "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
            "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
            _ => Err(self.invalid_value("is neither true nor false")),
        }
    }

    /// The value as a number of bytes; see [`parse_size`].
    ///
    /// # Errors
    /// `InvalidArgument` for another value.
    pub fn parse_size(&self) -> Result<u64> {
        parse_size(self.value()).map_err(|error| self.invalid_value("is no size").source(error))
    }

    /// The value as a decimal number.
    ///
    /// # Errors
    /// `InvalidArgument` for another value.
    pub fn parse_u64(&self) -> Result<u64> {
        self.value().parse().map_err(|error| self.invalid_value("is no number").source(error))
    }

    /// The value as a [`SyncMode`].
    ///
    /// # Errors
    /// `InvalidArgument` for another value.
    pub fn parse_sync_mode(&self) -> Result<SyncMode> {
        self.value().parse().map_err(|error: Error| self.invalid_value("is no sync mode").source(error))
    }

    /// The parts of a value separated by commas, without white space around them; empty parts are left out.
    pub fn list(&self) -> impl Iterator<Item = &str> {
        self.value().split(',').map(str::trim).filter(|part| !part.is_empty())
    }

    /// The value as a comma-separated list of existing directories, as for `imagestore`.
    ///
    /// # Errors
    /// `InvalidArgument` for a path that is not absolute or not a directory; otherwise the kind of the failed `stat`.
    pub fn parse_dirs(&self) -> Result<Vec<PathBuf>> {
        self.list().map(|part| self.check_dir(Path::new(part))).collect()
    }

    fn check_dir(&self, path: &Path) -> Result<PathBuf> {
        if !path.is_absolute() {
            return Err(self.invalid_value("is not absolute").path(path));
        }
        let metadata = path
            .metadata()
            .map_err(|error| Error::io("stat", path, error).detail(format!("for {}", self.text)))?;
        if !metadata.is_dir() {
            return Err(self.invalid_value("is not a directory").path(path));
        }
        Ok(path.to_owned())
    }

    /// The error for an option whose value does not make sense; `what` completes the sentence "value ...".
    pub fn invalid_value(&self, what: &str) -> Error {
        invalid(format!("value {:?} of option {:?} {what}", self.value, self.text))
    }

    /// The error for an option that the driver does not know; `known` are the keys that it does.
    pub fn unknown(&self, known: &[&str]) -> Error {
        let known = known.join(", ");
        invalid(format!("unknown option {:?} ({:?}); known options are: {known}", self.key, self.text))
    }
}

fn family(driver: &str) -> Option<&'static [&'static str]> {
    FAMILIES.into_iter().find(|names| names.contains(&driver))
}

fn invalid(detail: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, "parse option").detail(detail)
}

/// The options that are meant for the driver `name`, in the order given.
pub fn options_for<'a>(name: &'a str, options: &'a [DriverOption]) -> impl Iterator<Item = &'a DriverOption> {
    options.iter().filter(move |option| option.is_for(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(text: &str) -> DriverOption {
        text.parse().unwrap()
    }

    #[test]
    fn driver_key_and_value() {
        let table = [
            ("overlay.key=value", Some("overlay"), "key", "value"),
            ("overlay2.key=value", Some("overlay2"), "key", "value"),
            ("btrfs.key=value", Some("btrfs"), "key", "value"),
            ("zfs.key=value", Some("zfs"), "key", "value"),
            ("vfs.key=value", Some("vfs"), "key", "value"),
            ("gear.key=value", Some("gear"), "key", "value"),
            (".key=value", None, "key", "value"),
            ("key=value", None, "key", "value"),
            ("key=", None, "key", ""),
            ("OVERLAY.Key=Value", Some("overlay"), "key", "Value"),
            (" key = value1 = value2 ", None, "key", "value1 = value2"),
            ("  overlay.mountopt  =  nodev,size=1  ", Some("overlay"), "mountopt", "nodev,size=1"),
            ("overlay.a.b=c", Some("overlay"), "a.b", "c"),
        ];
        for (text, driver, key, value) in table {
            let option = option(text);
            assert_eq!((option.driver(), option.key(), option.value()), (driver, key, value), "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_parsed_says_why() {
        let table = [
            ("", "unable to parse key/value option: \"\" has no '='"),
            ("key", "unable to parse key/value option: \"key\" has no '='"),
            ("=value", "has no key"),
            ("overlay.=value", "has no key"),
            (
                "magicfs.size=5G",
                "unknown driver \"magicfs\" in option \"magicfs.size=5G\"; known drivers are: overlay, overlay2, ",
            ),
        ];
        for (text, part) in table {
            let error = text.parse::<DriverOption>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{text:?}");
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn each_driver_sees_its_own_and_the_general() {
        let options = ["overlay.a=1", "overlay2.b=2", "vfs.c=3", ".d=4", "e=5"].map(option);
        let keys = |name| options_for(name, &options).map(DriverOption::key).collect::<Vec<_>>();
        assert_eq!(keys("overlay"), ["a", "b", "d", "e"]);
        assert_eq!(keys("overlay2"), ["a", "b", "d", "e"]);
        assert_eq!(keys("vfs"), ["c", "d", "e"]);
        assert_eq!(keys("zfs"), ["d", "e"]);
    }

    #[test]
    fn typed_values() {
        assert!(option("vfs.ignore_chown_errors=true").parse_bool().unwrap());
        assert!(!option("x=F").parse_bool().unwrap());
        assert!(
            option("x=yes")
                .parse_bool()
                .unwrap_err()
                .to_string()
                .contains("\"yes\" of option \"x=yes\" is neither")
        );
        assert_eq!(option("overlay.size=50kb").parse_size().unwrap(), 51200);
        assert_eq!(option("overlay.size=many").parse_size().unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(option("overlay.inodes=7").parse_u64().unwrap(), 7);
        assert_eq!(option("overlay.inodes=-7").parse_u64().unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(option("vfs.sync= FileSystem ").parse_sync_mode().unwrap(), SyncMode::Filesystem);
        assert_eq!(option("vfs.sync=all").parse_sync_mode().unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(option("x= a, ,b,").list().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn directories_are_checked() {
        assert_eq!(
            option("imagestore=/usr, /etc,").parse_dirs().unwrap(),
            [Path::new("/usr"), Path::new("/etc")]
        );
        for (text, kind, part) in [
            (
                "imagestore=usr",
                ErrorKind::InvalidArgument,
                "\"usr\": value \"usr\" of option \"imagestore=usr\" is not absolute",
            ),
            ("imagestore=/etc/passwd", ErrorKind::InvalidArgument, "is not a directory"),
            ("imagestore=/nonexistent", ErrorKind::Io, "for imagestore=/nonexistent"),
        ] {
            let error = option(text).parse_dirs().unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn unknown_keys_name_the_known_ones() {
        let error = option("overlay.sise=5g").unknown(&["size", "inodes"]);
        assert_eq!(
            error.to_string(),
            "parse option: unknown option \"sise\" (\"overlay.sise=5g\"); known options are: size, inodes"
        );
    }
}
