//! What of a layer may not be as its archive made it, by the times of its files.

use std::collections::{HashMap, HashSet};
use std::fs::File;

use graphdriver_sys::FileType;
use nix::sys::stat::fstat;

use super::note::Note;
use super::seal::{self, Moment, changed};
use crate::error::{Error, Result};
use crate::root::RootDir;
use crate::walk::{Visited, visit_tree};

/// What is known without looking at files.
#[derive(Clone, Copy)]
pub(super) enum Known {
    /// Nothing: record and layer were copied.
    Nothing,
    /// The layer up to this moment, by a record without a note of where it was sealed.
    Until(Moment),
    /// The layer up to this moment, and that the root is the directory that it was.
    RootUntil(Moment),
}

impl Known {
    pub(super) fn new(record: &File, note: Option<&Note>, root: &RootDir) -> Result<Self> {
        let written = seal::written(record)?;
        Ok(match note {
            None => Self::Until(written),
            Some(note) if note.origin == seal::origin(record, root)? => Self::RootUntil(written),
            Some(_) => Self::Nothing,
        })
    }

    /// Whether something with this time is as it was.
    pub(super) fn has(self, moment: Moment) -> bool {
        match self {
            Self::Nothing => false,
            Self::Until(written) | Self::RootUntil(written) => moment < written,
        }
    }
}

/// What may have been changed, by paths relative to the root.
pub(super) struct Suspects {
    /// Whether it is a directory, and whether it was found to be as in the archive.
    pub(super) files: HashMap<Vec<u8>, Suspect>,
    /// What is in suspect directories.
    pub(super) listed: HashSet<Vec<u8>>,
}

pub(super) struct Suspect {
    pub(super) is_dir: bool,
    /// `None` for what the archive does not describe.
    pub(super) is_same: Option<bool>,
}

impl Suspects {
    pub(super) fn find(root: &RootDir, known: Known) -> Result<Self> {
        let mut suspects = Self { files: HashMap::new(), listed: HashSet::new() };
        let stat = fstat(root).map_err(|errno| Error::syscall("fstat", root.path(), errno))?;
        if !known.has(changed(&stat)) {
            suspects.files.insert(Vec::new(), Suspect { is_dir: true, is_same: None });
        }
        visit_tree(root, |Visited { path, stat, .. }| {
            let parent = parent(path);
            let is_listed = !suspects.files.is_empty() && suspects.files.contains_key(parent);
            if is_listed {
                suspects.listed.insert(path.clone());
            }
            let may_have_moved = is_listed && !(parent.is_empty() && matches!(known, Known::RootUntil(_)));
            if may_have_moved || !known.has(changed(stat)) {
                let is_dir = FileType::from_mode(stat.st_mode).is_dir();
                suspects.files.insert(path.clone(), Suspect { is_dir, is_same: None });
            }
            Ok(true)
        })?;
        Ok(suspects)
    }
}

/// The directory that a path of a layer is in.
pub(super) fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(&[], |slash| &path[..slash])
}
