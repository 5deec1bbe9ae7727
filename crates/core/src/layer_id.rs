//! The name of a layer.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};

/// Longest id: the longest file name that Linux file systems take, in bytes.
const MAX_LEN: usize = 255;

/// Names that drivers keep for themselves in a home, so that no layer can be called so.
const RESERVED: [&str; 7] =
    ["l", "staging", "tempdirs", "backingFsBlockDev", "lost+found", "mapped", "locks"];

/// The name of a layer, safe to use as one component of a path.
///
/// Never empty, at most 255 bytes, of printable ASCII without `/`, white space and what overlay mount options give a meaning (`:`, `,`, `\`); does not begin
/// with `.` or `-`; and is none of the names that the drivers' own files have. Engines use 64 hexadecimal digits. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerId(Arc<str>);

impl LayerId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LayerId {
    type Err = Error;

    /// # Errors
    /// `InvalidArgument`, saying what is wrong with the text.
    fn from_str(text: &str) -> Result<Self> {
        match defect(text) {
            None => Ok(Self(text.into())),
            Some(what) => {
                Err(Error::new(ErrorKind::InvalidArgument, "parse layer id")
                    .detail(format!("{text:?} {what}")))
            }
        }
    }
}

fn defect(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        Some("is empty")
    } else if text.len() > MAX_LEN {
        Some("is longer than 255 bytes")
    } else if text.starts_with(['.', '-']) {
        Some("begins with '.' or '-'")
    } else if text.bytes().any(|byte| !byte.is_ascii_graphic() || b"/:,\\".contains(&byte)) {
        Some("has a character other than printable ASCII without '/', ':', ',' and '\\'")
    } else if RESERVED.contains(&text) {
        Some("is a name that drivers keep for their own files")
    } else {
        None
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LayerId({})", self.0)
    }
}

impl AsRef<str> for LayerId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<Path> for LayerId {
    fn as_ref(&self) -> &Path {
        Path::new(&*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_engines_use() {
        let hex = "a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4";
        let init = "a3ed95ca-init";
        for id in [hex, init, "l0", "L", "base_1.2", "a@b", &"x".repeat(255)] {
            assert_eq!(id.parse::<LayerId>().unwrap().as_str(), id);
        }
    }

    #[test]
    fn refuses_what_is_not_one_safe_component() {
        let long = "x".repeat(256);
        for id in [
            "", ".", "..", ".hidden", "-rf", "a/b", "/", "a b", "a\nb", "a\0", "é", "a:b", "a,b", "a\\b",
            "l", "tempdirs", &long,
        ] {
            let error = id.parse::<LayerId>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{id:?}");
        }
    }
}
