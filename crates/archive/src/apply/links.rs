//! Hard links, whose targets may come later in the archive.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use graphdriver_sys::FileType;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, fstatat};
use nix::unistd::linkat;

use super::directories::Directory;
use super::implied::is_whiteout;
use super::unpack::{Unpacker, name_of};
use crate::error::{Error, Result};
use crate::root::clean_name;
use crate::tar::read::Entry;

/// Links whose target was not there yet: path and target.
#[derive(Debug, Default)]
pub(super) struct DeferredLinks {
    targets: BTreeMap<PathBuf, PathBuf>,
}

impl DeferredLinks {
    /// Something else took the place of `path`, or it was removed: links that were to be made there are not any more.
    pub(super) fn replaced(&mut self, path: &Path, by_directory: bool) {
        if self.targets.is_empty() {
            return;
        }
        self.targets.remove(path);
        if by_directory {
            return;
        }
        let after = (Bound::Excluded(path), Bound::Unbounded);
        let below = self.targets.range::<Path, _>(after).map(|(below, _)| below);
        let below: Vec<PathBuf> = below.take_while(|below| below.starts_with(path)).cloned().collect();
        for path in below {
            self.targets.remove(&path);
        }
    }
}

impl Unpacker<'_> {
    /// Makes the hard link of `entry` at `path`. The entry's metadata is not applied: it is the target's.
    pub(super) fn link(&mut self, entry: &Entry, path: &Path) -> Result<()> {
        let target = clean_name(&entry.link).map_err(|error| {
            let link = String::from_utf8_lossy(&entry.link).into_owned();
            Error::new(error.kind(), "read archive")
                .path(path)
                .detail(format!("the hard link's target {link:?} leaves the root"))
        })?;
        if target.file_name().is_none() {
            return Err(Error::invalid_archive("a hard link to the root, or to nothing").path(path));
        }
        if let Some(name) = self.aufs_link_name(&target) {
            return self.copy_aufs_link(&name, path);
        }
        let parent = self.parent(path)?;
        if self.try_link(&target, &parent, path)? {
            return Ok(());
        }
        // Whatever is there now goes at this point of the archive, not at its end.
        self.clear(&parent, path, false)?;
        self.remember_path(path)?;
        self.remember_path(&target)?;
        self.links.targets.insert(path.to_owned(), target);
        Ok(())
    }

    /// Makes the links whose targets came after them.
    ///
    /// # Errors
    /// `InvalidArchive` when a target never came.
    pub(super) fn link_deferred(&mut self) -> Result<()> {
        let targets = std::mem::take(&mut self.links.targets);
        let mut waiting: HashMap<&Path, Vec<&Path>> = HashMap::new();
        let mut ready = Vec::new();
        for (path, target) in &targets {
            // A link to a link waits for that one.
            if targets.contains_key(target) {
                waiting.entry(target).or_default().push(path);
            } else {
                ready.push(path.as_path());
            }
        }
        let mut made = 0;
        while let Some(path) = ready.pop() {
            let target = &targets[path];
            let parent = self.parent(path)?;
            if !self.try_link(target, &parent, path)? {
                return Err(missing(path, target));
            }
            made += 1;
            ready.extend(waiting.remove(path).unwrap_or_default());
        }
        match targets.iter().find(|_| made < targets.len()) {
            // What is left waits for itself.
            Some(_) => {
                let stuck = waiting.iter().find_map(|(target, paths)| Some((*paths.first()?, *target)));
                stuck.map_or(Ok(()), |(path, target)| Err(missing(path, target)))
            }
            None => Ok(()),
        }
    }

    /// Links `path` to `target`; false when there is no such file in this layer.
    fn try_link(&mut self, target: &Path, parent: &Directory, path: &Path) -> Result<bool> {
        let (name, target_name) = (name_of(path)?, name_of(target)?);
        let from = match self.directories.open(target.parent().unwrap_or(Path::new(""))) {
            Ok(from) => from,
            Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::ENOTDIR)) => return Ok(false),
            Err(error) => return Err(error),
        };
        if self.made_whiteouts && stat(&from, target)?.is_some_and(|stat| is_whiteout(&stat)) {
            return Ok(false);
        }
        // No flag: a symbolic link is linked to itself, not followed.
        let make = || linkat(from.as_fd(), target_name, parent.as_fd(), name, AtFlags::empty());
        let mut result = make();
        if result == Err(Errno::EEXIST) {
            let identity = |stat: Option<FileStat>| stat.map(|stat| (stat.st_dev, stat.st_ino));
            let there = identity(stat(parent, path)?);
            if there.is_some() && there == identity(stat(&from, target)?) {
                return Ok(true);
            }
            self.clear(parent, path, false)?;
            result = make();
        }
        match result {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => {
                let kind = stat(&from, target)?.map(|stat| FileType::from_mode(stat.st_mode));
                if kind == Some(FileType::Directory) {
                    return Err(
                        Error::invalid_archive(format!("a hard link to the directory {target:?}")).path(path)
                    );
                }
                Err(Error::syscall("linkat", path, errno).detail(format!("to {target:?}")))
            }
        }
    }
}

fn stat(directory: &Directory, path: &Path) -> Result<Option<FileStat>> {
    match fstatat(directory, name_of(path)?, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(Error::syscall("fstatat", path, errno)),
    }
}

fn missing(path: &Path, target: &Path) -> Error {
    let target = String::from_utf8_lossy(target.as_os_str().as_bytes()).into_owned();
    Error::invalid_archive(format!("the hard link's target {target:?} is not in this layer")).path(path)
}
