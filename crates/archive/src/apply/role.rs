//! What an entry's name makes of it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::options::WhiteoutMode;
use crate::error::{Error, Result};
use crate::tar::read::EntryKind;
use crate::whiteout;

/// What an entry is.
pub(crate) enum Role {
    Root,
    File,
    /// Takes the path away.
    Whiteout(PathBuf),
    /// Makes the directory opaque.
    Opaque(PathBuf),
    /// Content that AUFS keeps for hard links, by its name.
    AufsLink(Vec<u8>),
    /// Of no meaning outside AUFS.
    Skip,
}

impl Role {
    /// What the entry at the clean path `path` is.
    ///
    /// # Errors
    /// `InvalidArchive` for a whiteout that hides nothing.
    pub(crate) fn of(path: &Path, kind: EntryKind, whiteouts: WhiteoutMode) -> Result<Self> {
        let Some(name) = path.file_name() else { return Ok(Self::Root) };
        if whiteouts == WhiteoutMode::Aufs {
            return Ok(Self::File);
        }
        let name = name.as_bytes();
        let parent = path.parent().unwrap_or(Path::new(""));
        let mut components = path.iter().map(OsStrExt::as_bytes);
        let (first, second, third) = (components.next(), components.next(), components.next());
        if first.is_some_and(|first| first.starts_with(whiteout::META_PREFIX))
            && path.as_os_str().as_bytes() != whiteout::OPAQUE
        {
            return Ok(match (first, second, third) {
                (Some(whiteout::LINK_DIR), Some(name), None) if kind == EntryKind::Regular => {
                    Self::AufsLink(name.to_vec())
                }
                _ => Self::Skip,
            });
        }
        if name == whiteout::OPAQUE {
            return Ok(Self::Opaque(parent.to_owned()));
        }
        match name.strip_prefix(whiteout::PREFIX) {
            None => Ok(Self::File),
            Some(b"" | b"." | b"..") => Err(Error::invalid_archive("a whiteout of no name").path(path)),
            Some(hidden) => Ok(Self::Whiteout(parent.join(OsStr::from_bytes(hidden)))),
        }
    }
}
