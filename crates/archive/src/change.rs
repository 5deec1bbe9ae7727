//! What differs between a layer and its parent.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// How a path differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[doc(alias = "ChangeType")]
pub enum ChangeKind {
    /// Content or metadata differ; printed `C`.
    #[doc(alias = "ChangeModify")]
    Modify,
    /// Only the newer tree has it; printed `A`.
    #[doc(alias = "ChangeAdd")]
    Add,
    /// Only the older tree has it; printed `D`. What lay below a deleted directory is not listed.
    #[doc(alias = "ChangeDelete")]
    Delete,
}

impl ChangeKind {
    /// The letter that the Go programs print.
    pub fn letter(self) -> char {
        match self {
            Self::Modify => 'C',
            Self::Add => 'A',
            Self::Delete => 'D',
        }
    }
}

/// One changed path. Displayed as `A /path`, the form of `docker diff` and `podman diff`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    /// Absolute inside the layer: begins with `/`.
    pub path: PathBuf,
    /// How it differs.
    pub kind: ChangeKind,
}

impl Change {
    /// A change of `path`, which begins with `/`.
    pub fn new(path: impl Into<PathBuf>, kind: ChangeKind) -> Self {
        Self { path: path.into(), kind }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.letter(), self.path.display())
    }
}

impl Ord for Change {
    /// By the bytes of the path, then by kind: the order of the lists that this crate returns.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let by_path = self.path.as_os_str().as_bytes().cmp(other.path.as_os_str().as_bytes());
        by_path.then(self.kind.cmp(&other.kind))
    }
}

impl PartialOrd for Change {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_the_go_programs_do() {
        let printed: Vec<String> = [ChangeKind::Modify, ChangeKind::Add, ChangeKind::Delete]
            .map(|kind| Change::new("/change", kind).to_string())
            .into();
        assert_eq!(printed, ["C /change", "A /change", "D /change"]);
    }

    #[test]
    fn sorts_by_bytes_not_by_component() {
        let mut changes = ["/a/b", "/a-b", "/a"].map(|path| Change::new(path, ChangeKind::Add));
        changes.sort();
        assert_eq!(changes.map(|change| change.path), ["/a", "/a-b", "/a/b"].map(PathBuf::from));
    }
}
