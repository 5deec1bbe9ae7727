//! Walking a layer's own directory.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use graphdriver_sys::dents::Buffer;
use graphdriver_sys::{FileType, xattr};
use nix::errno::Errno;
use nix::sys::stat::fstat;

use super::file::{Found, Kind, Place, find};
use super::plain::is_plain;
use super::writer::EntryWriter;
use crate::error::{Error, ErrorKind, Result};
use crate::lowers::{Below, LayerForm, Lowers, Merged, OpaqueMark};
use crate::root::RootDir;
use crate::walk::{DirStack, Listing, as_path, open_dir_at, push_name};
use crate::whiteout;

/// A walk in the order of the paths' bytes, one entry per step.
///
/// That is not quite the order of a walk: of the names `a` (a directory), `a-b` and `a/c`, the second sorts before the third. So a directory that
/// was written waits until all names are written that sort before what is in it.
pub(super) struct LayerWalk {
    dirs: DirStack,
    levels: Vec<Level>,
    /// Of the current directory, relative to the root.
    path: Vec<u8>,
    buffer: Buffer,
    /// How whiteouts are marked and what they hide; `None` for a tree without whiteouts.
    lowers: Option<Lowers>,
}

struct Level {
    listing: Listing,
    next: usize,
    /// Directories that were written and not yet walked. Each name begins with the one before it.
    waiting: Vec<Directory>,
    /// Of this directory.
    mark: OpaqueMark,
    /// What shows through the directories in it, by their index; none for those through which nothing does.
    below: Vec<(usize, Merged)>,
    /// Length of the path of the directory above.
    above_bytes: usize,
}

struct Directory {
    index: usize,
    /// Kept when it is walked next, which is the rule.
    fd: Option<OwnedFd>,
    merged: Merged,
}

enum Next {
    Write(usize),
    Walk(Directory),
    Leave,
}

impl LayerWalk {
    pub(super) fn new(root: &RootDir, lowers: Option<Lowers>) -> Result<Self> {
        let top = open_dir_at(root, ".").map_err(|errno| Error::syscall("openat", root.path(), errno))?;
        let buffer = Buffer::new();
        Ok(Self { dirs: DirStack::new(top), levels: Vec::new(), path: Vec::new(), buffer, lowers })
    }

    /// Writes one entry, or goes one directory down or up; false at the end.
    pub(super) fn step(&mut self, writer: &mut EntryWriter) -> Result<bool> {
        let Some(level) = self.levels.last_mut() else {
            self.begin(writer)?;
            return Ok(true);
        };
        match level.next() {
            Next::Write(index) => self.write(index, writer)?,
            Next::Walk(directory) => self.descend(directory)?,
            Next::Leave if self.levels.len() == 1 => return Ok(false),
            Next::Leave => self.leave()?,
        }
        Ok(true)
    }

    /// Reads the root.
    fn begin(&mut self, writer: &mut EntryWriter) -> Result<()> {
        let mut merged = self.lowers.as_ref().map(Lowers::all).unwrap_or_default();
        if !merged.is_empty() {
            let place = Place { dir: self.dirs.current(), name: c".", path: b"" };
            if self.mark(place.dir)? == OpaqueMark::Opaque {
                let stat = fstat(place.dir).map_err(|errno| place.failed("fstat", errno))?;
                writer.opaque(place, &stat)?;
                merged.clear();
            }
        }
        self.enter(&merged, 0)
    }

    /// Reads the current directory.
    fn enter(&mut self, merged: &[usize], above_bytes: usize) -> Result<()> {
        let dir = self.dirs.current();
        let listing = Listing::read(dir, &mut self.buffer)
            .map_err(|errno| Error::syscall("getdents64", as_path(&self.path), errno))?;
        let mark = self.mark(dir)?;
        let below = self.below(&listing, merged)?;
        self.levels.push(Level { listing, next: 0, waiting: Vec::new(), mark, below, above_bytes });
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        let Some(done) = self.levels.pop() else { return Ok(()) };
        self.dirs.pop().map_err(|errno| Error::syscall("openat", as_path(&self.path).join(".."), errno))?;
        self.path.truncate(done.above_bytes);
        Ok(())
    }

    fn descend(&mut self, directory: Directory) -> Result<()> {
        let Some(level) = self.levels.last() else { return Ok(()) };
        let name = level.listing.name(directory.index).unwrap_or_default();
        let above_bytes = self.path.len();
        push_name(&mut self.path, name);
        let opened = directory.fd.map_or_else(|| open_dir_at(self.dirs.current(), name), Ok);
        let fd = match opened {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                tracing::warn!(path = ?as_path(&self.path), "directory vanished before it was read, what was in it is left out");
                self.path.truncate(above_bytes);
                return Ok(());
            }
            opened => opened.map_err(|errno| Error::syscall("openat", as_path(&self.path), errno))?,
        };
        self.dirs.push(fd).map_err(|errno| Error::syscall("fstat", as_path(&self.path), errno))?;
        self.enter(&directory.merged, above_bytes)
    }

    fn write(&mut self, index: usize, writer: &mut EntryWriter) -> Result<()> {
        let Some(level) = self.levels.last_mut() else { return Ok(()) };
        let merged = level.take_below(index);
        let name = level.listing.name(index).unwrap_or_default();
        let mut path = self.path.clone();
        push_name(&mut path, name);
        let place = Place { dir: self.dirs.current(), name, path: &path };
        if let Some(form) = self.lowers.as_ref().map(Lowers::form)
            && form.marks_by_name()
            && name.to_bytes().starts_with(whiteout::PREFIX)
        {
            return write_aufs_mark(form, place, writer);
        }
        let Some(found) = find(place, level.listing.file_type(index))? else {
            tracing::warn!(path = ?as_path(&path), "file vanished before it was read, left out");
            return Ok(());
        };
        let Some(lowers) = &self.lowers else {
            if let Some(fd) = writer.file(place, found)? {
                level.wait(Directory { index, fd: Some(fd), merged: Merged::new() });
            }
            return Ok(());
        };
        let whiteout = lowers.form().is_whiteout(place.dir, level.mark, name, &found.stat);
        if whiteout.map_err(|errno| place.failed("lgetxattr", errno))? {
            writer.whiteout(&path);
            return Ok(());
        }
        check_plain(place, lowers.form(), &found)?;
        let stat = found.stat;
        let Some(fd) = writer.file(place, found)? else { return Ok(()) };
        let mark = lowers.form().opaque_mark(fd.as_fd()).map_err(|errno| place.failed("fgetxattr", errno))?;
        let merged = match merged {
            Some(_) if mark == OpaqueMark::Opaque => {
                writer.opaque(place, &stat)?;
                Merged::new()
            }
            merged => merged.unwrap_or_default(),
        };
        level.wait(Directory { index, fd: Some(fd), merged });
        Ok(())
    }

    fn mark(&self, dir: BorrowedFd<'_>) -> Result<OpaqueMark> {
        let Some(lowers) = &self.lowers else { return Ok(OpaqueMark::None) };
        lowers
            .form()
            .opaque_mark(dir)
            .map_err(|errno| Error::syscall("fgetxattr", as_path(&self.path), errno))
    }

    /// What shows through each directory of `listing`.
    fn below(&self, listing: &Listing, merged: &[usize]) -> Result<Vec<(usize, Merged)>> {
        let mut found = Vec::new();
        let Some(lowers) = self.lowers.as_ref().filter(|_| !merged.is_empty()) else { return Ok(found) };
        let below = lowers.open(&self.path, merged)?;
        for index in (0..listing.len()).filter(|index| may_be_dir(listing.file_type(*index))) {
            let name = listing.name(index).unwrap_or_default();
            let failed =
                |errno| Error::syscall("fstatat", as_path(&self.path).join(as_path(name.to_bytes())), errno);
            if let Below::Dir { merged, .. } = below.below(name).map_err(failed)? {
                found.push((index, merged));
            }
        }
        Ok(found)
    }
}

impl Level {
    fn next(&mut self) -> Next {
        let name = self.listing.name(self.next);
        let waiting = self.waiting.last().and_then(|directory| self.listing.name(directory.index));
        if let Some(waiting) = waiting
            && name.is_none_or(|name| sorts_after_contents(name, waiting))
            && let Some(directory) = self.waiting.pop()
        {
            return Next::Walk(directory);
        }
        if name.is_none() {
            return Next::Leave;
        }
        self.next += 1;
        Next::Write(self.next - 1)
    }

    fn wait(&mut self, directory: Directory) {
        // Only the one that is likely next keeps its descriptor.
        if let Some(before) = self.waiting.last_mut() {
            before.fd = None;
        }
        self.waiting.push(directory);
    }

    fn take_below(&mut self, index: usize) -> Option<Merged> {
        let at = self.below.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        Some(std::mem::take(&mut self.below[at].1))
    }
}

/// Whether `name`, which sorts after `directory`, sorts after `directory/` too.
fn sorts_after_contents(name: &CStr, directory: &CStr) -> bool {
    match name.to_bytes().strip_prefix(directory.to_bytes()) {
        Some(rest) => rest.first().is_some_and(|byte| *byte > b'/'),
        None => true,
    }
}

fn may_be_dir(file_type: FileType) -> bool {
    matches!(file_type, FileType::Directory | FileType::Unknown)
}

/// A `.wh.` file: a whiteout, the mark of an opaque directory, or, in the root, something of AUFS's own.
fn write_aufs_mark(form: LayerForm, place: Place<'_>, writer: &mut EntryWriter) -> Result<()> {
    let name = place.name.to_bytes();
    let is_opaque = name == whiteout::OPAQUE;
    let in_root = name.len() == place.path.len();
    if in_root && name.starts_with(whiteout::META_PREFIX) && !is_opaque || name == whiteout::FUSE_STRAY {
        return Ok(());
    }
    // Written with the directory, if there is one below; fuse-overlayfs marks every new directory.
    if is_opaque && matches!(form, LayerForm::Fuse) {
        return Ok(());
    }
    let directory = &place.path[..place.path.len() - name.len()];
    if is_opaque {
        let stat = fstat(place.dir).map_err(|errno| place.failed("fstat", errno))?;
        return writer
            .opaque(Place { path: directory.strip_suffix(b"/").unwrap_or_default(), ..place }, &stat);
    }
    let hidden = name.strip_prefix(whiteout::PREFIX).unwrap_or_default();
    writer.whiteout(&[directory, hidden].concat());
    Ok(())
}

fn check_plain(place: Place<'_>, form: LayerForm, found: &Found) -> Result<()> {
    let LayerForm::Overlay(attributes) = form else { return Ok(()) };
    let (Kind::Regular(fd) | Kind::Directory(fd)) = &found.kind else { return Ok(()) };
    let get = |name: &CStr| xattr::fget(fd, name).map(|value| value.is_some());
    if is_plain(&found.stat, attributes, get).map_err(|errno| place.failed("fgetxattr", errno))? {
        return Ok(());
    }
    Err(Error::new(ErrorKind::NotSupported, "export").path(as_path(place.path)).detail(
        "the overlay layer was written with redirect_dir or metacopy, so what it changes shows only when it is mounted",
    ))
}
