//! Names of datasets and snapshots.

use std::fmt;
use std::path::Path;

use graphdriver_core::{Error, ErrorKind, LayerId, Result, TempDir};

/// Longest name of a dataset, in bytes, with those of its parents (`ZFS_MAX_DATASET_NAME_LEN` less the NUL).
const MAX_LEN: usize = 255;

/// What a snapshot that a layer is cloned from is called, before the name of the temporary directory of whoever makes the clone.
const SNAPSHOT: &str = "graphdriver-";

/// What a dataset in the making, or one that is being deleted, is called. Layer ids do not begin with a dot.
const ASIDE: &str = ".graphdriver-";

/// The name of a dataset, `pool/a/b`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dataset(String);

impl Dataset {
    /// # Errors
    /// `InvalidArgument` for what is no name of a dataset, saying why.
    pub(crate) fn new(name: &str) -> Result<Self> {
        match defect(name) {
            None => Ok(Self(name.to_owned())),
            Some(what) => {
                Err(Error::new(ErrorKind::InvalidArgument, "name dataset").detail(format!("{name:?} {what}")))
            }
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The pool that it is in.
    pub(crate) fn pool(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    /// The dataset `name` below this one.
    ///
    /// # Errors
    /// `InvalidArgument` for a name with characters that ZFS does not take, or one that is too long.
    pub(crate) fn child(&self, name: &str) -> Result<Self> {
        Self::new(&format!("{}/{name}", self.0))
    }

    /// The dataset of a layer below this one.
    ///
    /// # Errors
    /// As [`child`](Self::child).
    pub(crate) fn layer(&self, id: &LayerId) -> Result<Self> {
        self.child(id.as_str()).map_err(|error| error.layer(id))
    }

    /// What `full`, the name of a dataset or of a snapshot, is called below this one, if it lies directly there.
    pub(crate) fn below<'a>(&self, full: &'a str) -> Option<&'a str> {
        full.strip_prefix(&self.0)?.strip_prefix('/').filter(|name| !name.contains('/'))
    }
}

impl fmt::Display for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn defect(name: &str) -> Option<&'static str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.: ".contains(&byte);
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if !begins || name.split('/').any(str::is_empty) {
        Some("is no name of a dataset")
    } else if name.len() > MAX_LEN {
        Some("is longer than the 255 bytes that ZFS takes")
    } else if !name.bytes().all(|byte| is_plain(byte) || byte == b'/') {
        Some(
            "has a character that ZFS does not take in names: letters, digits and -_.: are those that it does",
        )
    } else {
        None
    }
}

/// Names that nobody else uses, for what one temporary directory stands for: of the home, so that homes which share a parent dataset do not take each other's for their own leftovers, and of the
/// directory, whose lock tells whether its process lives.
#[derive(Clone, Debug)]
pub(crate) struct TempNames {
    home: u64,
}

impl TempNames {
    pub(crate) fn new(home: &Path) -> Self {
        Self { home: fnv(home.as_os_str().as_encoded_bytes()) }
    }

    /// The snapshot from which `temp_dir`'s layer is cloned.
    pub(crate) fn snapshot(&self, temp_dir: &TempDir) -> String {
        format!("{SNAPSHOT}{}", self.tag(temp_dir))
    }

    /// The dataset that is made or deleted in the name of `temp_dir`.
    pub(crate) fn aside(&self, temp_dir: &TempDir) -> String {
        format!("{ASIDE}{}", self.tag(temp_dir))
    }

    fn tag(&self, temp_dir: &TempDir) -> String {
        let name = temp_dir.path().file_name().unwrap_or_default().to_string_lossy();
        format!("{:016x}-{name}", self.home)
    }

    /// The temporary directory, of this home, that the dataset or snapshot `name` belongs to.
    pub(crate) fn directory_of<'a>(&self, name: &'a str) -> Option<&'a str> {
        let (_, snapshot) = name.split_once('@').unwrap_or(("", ""));
        let tag = snapshot.strip_prefix(SNAPSHOT).or_else(|| name.strip_prefix(ASIDE))?;
        let (home, directory) = tag.split_once('-')?;
        (u64::from_str_radix(home, 16).ok()? == self.home).then_some(directory)
    }
}

/// Fowler, Noll and Vo's hash (FNV-1a, 64 bits): the same for every program that opens the home.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use graphdriver_core::TempDirs;

    use super::*;

    #[test]
    fn names_are_those_that_zfs_takes() {
        let long = format!("tank/{}", "x".repeat(251));
        for (name, is_one) in [
            ("tank", true),
            ("tank/graph/base_1.2", true),
            ("tank/a b:c", true),
            ("tank/.hidden", true),
            ("", false),
            ("/tank", false),
            ("tank/", false),
            ("tank//a", false),
            ("-o", false),
            ("tank/a@b", false),
            ("tank/a#b", false),
            ("tank/a%b", false),
            ("tank/\u{e9}", false),
            (&long, false),
            (&long[..255], true),
        ] {
            assert_eq!(Dataset::new(name).is_ok(), is_one, "{name}");
        }
    }

    #[test]
    fn layers_lie_directly_below() {
        let parent = Dataset::new("tank/graph").unwrap();
        assert_eq!(parent.pool(), "tank");
        let id: LayerId = "base".parse().unwrap();
        assert_eq!(parent.layer(&id).unwrap().as_str(), "tank/graph/base");
        for (full, name) in [
            ("tank/graph/base", Some("base")),
            ("tank/graph/base@s", Some("base@s")),
            ("tank/graph", None),
            ("tank/graphs/base", None),
            ("tank/graph/base/more", None),
        ] {
            assert_eq!(parent.below(full), name, "{full}");
        }
        let odd: LayerId = "a@b".parse().unwrap();
        assert_eq!(parent.layer(&odd).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn temporary_names_lead_back_to_their_directory() {
        let home = tempfile::tempdir().unwrap();
        let temp_dir = TempDirs::open(home.path()).unwrap().create().unwrap();
        let directory = temp_dir.path().file_name().unwrap().to_str().unwrap();
        let names = TempNames::new(home.path());
        let (aside, snapshot) = (names.aside(&temp_dir), names.snapshot(&temp_dir));
        assert_eq!(names.directory_of(&aside), Some(directory));
        assert_eq!(names.directory_of(&format!("base@{snapshot}")), Some(directory));
        assert_eq!(TempNames::new(Path::new("/another")).directory_of(&aside), None);
        for other in ["base", "base@123456789", ".graphdriver-x", "base@graphdriver-", &snapshot] {
            assert_eq!(names.directory_of(other), None, "{other}");
        }
        assert!(aside.parse::<LayerId>().is_err(), "no layer can be called so");
    }
}
