//! Going through a list of changes.

use std::collections::VecDeque;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use graphdriver_sys::FileType;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::finder::Batch;
use crate::change::{Change, ChangeKind};
use crate::error::{Error, ErrorKind, Result};
use crate::found::{Found, Kind, Place, find};
use crate::root::{RootDir, clean_name};
use crate::stack::LayerForm;
use crate::walk::{as_path, lstat_at};

/// The changes in the order of their paths, one entry per step.
pub(super) struct ChangeList {
    root: RootDir,
    /// Paths relative to the root, and whether what was there is deleted; the next one last.
    pending: Vec<(Vec<u8>, bool)>,
    /// Directories of changes, by their paths, the one used last at the end.
    dirs: VecDeque<(Vec<u8>, OwnedFd)>,
}

/// How many of them are kept open. Most changes are in a directory that was just used, or in one of those that it is in.
const KEPT_OPEN: usize = 32;

impl ChangeList {
    pub(super) fn new(root: &RootDir, changes: Vec<Change>) -> Result<Self> {
        let mut pending = Vec::with_capacity(changes.len());
        for change in changes {
            let path = clean_name(change.path.as_os_str().as_bytes())?.into_os_string();
            if !path.is_empty() {
                pending.push((path.as_bytes().to_vec(), change.kind == ChangeKind::Delete));
            }
        }
        pending.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Self { root: root.clone(), pending, dirs: VecDeque::new() })
    }

    /// Finds the entries of one change; false at the end.
    pub(super) fn step(&mut self, batch: &mut Batch) -> Result<bool> {
        let Some((path, deleted)) = self.pending.pop() else { return Ok(false) };
        let goes_on = self.goes_on_in(&path);
        let base = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let name = CString::new(&path[base..])
            .map_err(|_| Error::new(ErrorKind::InvalidArgument, "export").path(as_path(&path)))?;
        let parent = self.enter(path[..base].strip_suffix(b"/").unwrap_or_default())?;
        if deleted {
            match parent {
                Some(dir) => find_deletion(Place { dir: dir.as_fd(), name: &name, path: &path }, batch)?,
                None => batch.whiteout(&path),
            }
            return Ok(true);
        }
        let mut found = match parent {
            Some(dir) => {
                let place = Place { dir: dir.as_fd(), name: &name, path: &path };
                let hint = if goes_on { FileType::Directory } else { FileType::Unknown };
                find(place, hint, LayerForm::Plain)?
            }
            None => None,
        };
        if let Some(Found { kind: Kind::Directory(dir), .. }) = &mut found
            && let Some(dir) = dir.take()
        {
            self.keep(&path, dir);
        }
        if let Some(found) = found {
            batch.file(&path, found);
        } else {
            tracing::warn!(path = ?as_path(&path), "file vanished before it was read, left out");
        }
        Ok(true)
    }

    /// Whether the next change is directly in the directory `path`.
    fn goes_on_in(&self, path: &[u8]) -> bool {
        let next = self.pending.last().and_then(|(next, _)| next.strip_prefix(path)?.strip_prefix(b"/"));
        next.is_some_and(|name| !name.contains(&b'/'))
    }

    /// The directory `path`; `None` when it is not there any more.
    fn enter(&mut self, path: &[u8]) -> Result<Option<&OwnedFd>> {
        if let Some(index) = self.dirs.iter().rposition(|(kept, _)| kept == path) {
            let dir = self.dirs.remove(index);
            self.dirs.extend(dir);
        } else {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
            match self.root.open_at(as_path(path), flags, Mode::empty()) {
                Ok(dir) => self.keep(path, dir),
                Err(error)
                    if matches!(error.errno(), Some(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP)) =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(self.dirs.back().map(|(_, dir)| dir))
    }

    fn keep(&mut self, path: &[u8], dir: OwnedFd) {
        if self.dirs.len() == KEPT_OPEN {
            self.dirs.pop_front();
        }
        self.dirs.push_back((path.to_vec(), dir));
    }
}

/// Adds a whiteout; for a directory that was deleted and made again, its entry and the opaque mark, which delete just as well and do not
/// depend on what comes first.
fn find_deletion(place: Place<'_>, batch: &mut Batch) -> Result<()> {
    let is_dir = match lstat_at(place.dir, place.name) {
        Ok(stat) => FileType::from_mode(stat.st_mode).is_dir(),
        Err(Errno::ENOENT | Errno::ENAMETOOLONG) => false,
        Err(errno) => return Err(place.failed("fstatat", errno)),
    };
    let found = if is_dir { find(place, FileType::Directory, LayerForm::Plain)? } else { None };
    let Some(found) = found else {
        batch.whiteout(place.path);
        return Ok(());
    };
    let stat = found.stat;
    batch.file(place.path, found);
    batch.opaque(place.path, stat);
    Ok(())
}
