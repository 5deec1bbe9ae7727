//! What a layer's own directory says that it changes.

use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use graphdriver_sys::dents::Buffer;
use graphdriver_sys::{FileType, xattr};
use nix::errno::Errno;
use nix::sys::stat::FileStat;

use super::parents::sort_with_parents;
use crate::change::{Change, ChangeKind};
use crate::error::{Error, ErrorKind, Result};
use crate::lowers::{Below, LayerForm, Lowers, Merged, MergedDir, OpaqueMark};
use crate::root::RootDir;
use crate::walk::{DirStack, Listing, as_path, lstat_at, open_dir_at, push_name};
use crate::whiteout::{self, OverlayXattrs};
use crate::xattrs;

/// What the overlay layer `upper` changes in the layers `lowers` (uppermost first), sorted by path. Costs what the layer holds, not what lies below it.
///
/// Whiteouts are deletions: character devices 0/0, and empty files with the attribute `overlay.whiteout` in a directory
/// whose opaque mark is `x`. A directory that is opaque and takes the place of one below is listed as deleted and all in it as added; one that is
/// opaque over nothing (the kernel marks every new directory) is just new. Directories that equal the one below in mode, owner, time and attributes are
/// there only because something in them changed, and not listed for their own sake. Directories above something added or deleted are
/// listed as modified; those above a file that is only modified need not be.
///
/// # Errors
/// `NotSupported` when a directory was renamed with the mount option `redirect_dir`: then only comparing the mounted trees
/// tells. Else the kind of the failed system call.
#[doc(alias = "OverlayChanges")]
pub fn overlay_changes(upper: &RootDir, lowers: &[RootDir], xattrs: OverlayXattrs) -> Result<Vec<Change>> {
    layered_changes(upper, Lowers::new(lowers.to_vec(), LayerForm::Overlay(xattrs)))
}

/// What the AUFS branch `rw` changes in the branches `lowers` (uppermost first), sorted by path; as [`overlay_changes`], with `.wh.` files for
/// whiteouts. AUFS's own files in the root (`.wh..wh.*`) are left out.
///
/// # Errors
/// The kind of the failed system call.
#[doc(alias = "Changes")]
pub fn aufs_changes(rw: &RootDir, lowers: &[RootDir]) -> Result<Vec<Change>> {
    layered_changes(rw, Lowers::new(lowers.to_vec(), LayerForm::Aufs))
}

/// What the layer `upper` of a fuse-overlayfs mount changes in the layers `lowers` (uppermost first), sorted by path; as [`overlay_changes`], with
/// whiteouts and opaque marks in all forms that fuse-overlayfs writes and reads.
///
/// # Errors
/// The kind of the failed system call.
pub fn fuse_overlay_changes(upper: &RootDir, lowers: &[RootDir]) -> Result<Vec<Change>> {
    layered_changes(upper, Lowers::new(lowers.to_vec(), LayerForm::Fuse))
}

fn layered_changes(upper: &RootDir, lowers: Lowers) -> Result<Vec<Change>> {
    let top = open_dir_at(upper, ".").map_err(|errno| Error::syscall("openat", upper.path(), errno))?;
    let merged = lowers.all();
    let mut walk =
        Walk { lowers, buffer: Buffer::new(), path: Vec::new(), levels: Vec::new(), found: Vec::new() };
    walk.run(top, &merged)?;
    Ok(sort_with_parents(walk.found, |change| change.kind != ChangeKind::Modify))
}

struct Walk {
    lowers: Lowers,
    buffer: Buffer,
    /// Of the current directory, relative to the root.
    path: Vec<u8>,
    levels: Vec<Level>,
    found: Vec<Change>,
}

/// The directories in the current one that are still to be walked, and what shows through them.
struct Level {
    pending: Vec<(CString, Merged)>,
    /// Length of the path of the directory above.
    above_bytes: usize,
}

/// A directory of the upper layer with what lies below it.
struct Current<'a> {
    dir: BorrowedFd<'a>,
    mark: OpaqueMark,
    below: MergedDir,
}

impl Walk {
    fn run(&mut self, top: OwnedFd, merged: &[usize]) -> Result<()> {
        let mut dirs = DirStack::new(top);
        self.enter(dirs.current(), merged, 0)?;
        while let Some(level) = self.levels.last_mut() {
            let Some((name, merged)) = level.pending.pop() else {
                let above_bytes = level.above_bytes;
                self.levels.pop();
                dirs.pop().map_err(|errno| self.failed("openat", c"..", errno))?;
                self.path.truncate(above_bytes);
                continue;
            };
            let dir = match open_dir_at(dirs.current(), name.as_c_str()) {
                Err(Errno::ENOENT) => continue,
                opened => opened.map_err(|errno| self.failed("openat", &name, errno))?,
            };
            let above_bytes = self.path.len();
            push_name(&mut self.path, &name);
            dirs.push(dir).map_err(|errno| self.failed("fstat", c"", errno))?;
            self.enter(dirs.current(), &merged, above_bytes)?;
        }
        Ok(())
    }

    /// Records what the entries of `dir` say and notes its directories.
    fn enter(&mut self, dir: BorrowedFd<'_>, merged: &[usize], above_bytes: usize) -> Result<()> {
        let listing =
            Listing::read(dir, &mut self.buffer).map_err(|errno| self.failed("getdents64", c"", errno))?;
        let mark =
            self.lowers.form().opaque_mark(dir).map_err(|errno| self.failed("fgetxattr", c"", errno))?;
        // The root's own mark hides all that lies below; that of a directory was heeded when its name was met.
        let merged =
            if above_bytes == 0 && self.path.is_empty() && mark == OpaqueMark::Opaque { &[] } else { merged };
        let current = Current { dir, mark, below: self.lowers.open(&self.path, merged)? };
        let mut pending = Vec::new();
        for index in 0..listing.len() {
            let name = listing.name(index).unwrap_or_default();
            if let Some(merged) = self.entry(&current, name)? {
                pending.push((name.to_owned(), merged));
            }
        }
        self.levels.push(Level { pending, above_bytes });
        Ok(())
    }

    /// Records what one entry says; what shows through, if it is a directory.
    fn entry(&mut self, current: &Current<'_>, name: &CStr) -> Result<Option<Merged>> {
        if self.lowers.form().marks_by_name()
            && let Some(hidden) = name.to_bytes().strip_prefix(whiteout::PREFIX)
        {
            let is_metadata = self.path.is_empty() && name.to_bytes().starts_with(whiteout::META_PREFIX);
            if !is_metadata && ![whiteout::OPAQUE, whiteout::FUSE_STRAY].contains(&name.to_bytes()) {
                self.record(hidden, ChangeKind::Delete);
            }
            return Ok(None);
        }
        let stat = match lstat_at(current.dir, name) {
            Err(Errno::ENOENT) => return Ok(None),
            stat => stat.map_err(|errno| self.failed("fstatat", name, errno))?,
        };
        let whiteout = self.lowers.form().is_whiteout(current.dir, current.mark, name, &stat);
        if whiteout.map_err(|errno| self.failed("lgetxattr", name, errno))? {
            self.record(name.to_bytes(), ChangeKind::Delete);
            return Ok(None);
        }
        let below = current.below.below(name).map_err(|errno| self.failed("fstatat", name, errno))?;
        if FileType::from_mode(stat.st_mode).is_dir() {
            return self.directory(current, name, &stat, below);
        }
        let kind = if let Below::Nothing = below { ChangeKind::Add } else { ChangeKind::Modify };
        self.record(name.to_bytes(), kind);
        Ok(None)
    }

    fn directory(
        &mut self,
        current: &Current<'_>,
        name: &CStr,
        stat: &FileStat,
        below: Below,
    ) -> Result<Option<Merged>> {
        let dir = match open_dir_at(current.dir, name) {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
            opened => opened.map_err(|errno| self.failed("openat", name, errno))?,
        };
        self.check_not_redirected(dir.as_fd(), name)?;
        let mark = self.lowers.form().opaque_mark(dir.as_fd());
        let opaque = mark.map_err(|errno| self.failed("fgetxattr", name, errno))? == OpaqueMark::Opaque;
        let (kind, merged) = match below {
            Below::Nothing => (Some(ChangeKind::Add), Merged::new()),
            Below::File => (Some(ChangeKind::Modify), Merged::new()),
            Below::Dir { .. } if opaque => (Some(ChangeKind::Delete), Merged::new()),
            Below::Dir { uppermost, merged } => {
                let lower = current.below.dir_of(&merged);
                let same = same_directory(dir.as_fd(), stat, lower, &uppermost, name);
                let same = same.map_err(|errno| self.failed("lgetxattr", name, errno))?;
                ((!same).then_some(ChangeKind::Modify), merged)
            }
        };
        if let Some(kind) = kind {
            self.record(name.to_bytes(), kind);
        }
        Ok(Some(merged))
    }

    fn check_not_redirected(&self, dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
        let LayerForm::Overlay(attributes) = self.lowers.form() else { return Ok(()) };
        match xattr::fget(dir, attributes.redirect()) {
            Ok(None) | Err(Errno::EOPNOTSUPP) => Ok(()),
            Ok(Some(_)) => Err(Error::new(ErrorKind::NotSupported, "find changes")
                .path(as_path(&self.below(name.to_bytes())))
                .detail("the directory was renamed by an overlay mount with redirect_dir")),
            Err(errno) => Err(self.failed("fgetxattr", name, errno)),
        }
    }

    fn record(&mut self, name: &[u8], kind: ChangeKind) {
        let path = [&b"/"[..], &self.below(name)].concat();
        self.found.push(Change { path: OsString::from_vec(path).into(), kind });
    }

    fn below(&self, name: &[u8]) -> Vec<u8> {
        let separator: &[u8] = if self.path.is_empty() || name.is_empty() { b"" } else { b"/" };
        [&self.path, separator, name].concat()
    }

    fn failed(&self, operation: &'static str, name: &CStr, errno: Errno) -> Error {
        Error::syscall(operation, as_path(&self.below(name.to_bytes())), errno)
    }
}

/// Whether a directory is there only for what is in it. The size of directories tells nothing.
fn same_directory(
    dir: BorrowedFd<'_>,
    stat: &FileStat,
    lower_parent: Option<BorrowedFd<'_>>,
    lower: &FileStat,
    name: &CStr,
) -> nix::Result<bool> {
    let metadata =
        |stat: &FileStat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_mtime, stat.st_mtime_nsec);
    if metadata(stat) != metadata(lower) {
        return Ok(false);
    }
    let Some(lower_parent) = lower_parent else { return Ok(true) };
    Ok(xattrs::of_file(dir)? == xattrs::of_entry(lower_parent, name)?)
}
