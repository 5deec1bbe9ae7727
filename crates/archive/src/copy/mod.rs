//! Copying a tree on one host, with all that a layer holds.

mod contents;
mod links;
mod metadata;

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use graphdriver_sys::dents::Buffer;
use graphdriver_sys::{FileType, xattr};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, mkdirat, mknodat};
use nix::unistd::{linkat, symlinkat};

use self::contents::Contents;
use self::links::Links;
use crate::error::{Error, Result};
use crate::root::RootDir;
use crate::walk::{
    Crew, DirStack, Listing, as_path, lstat_at, open_dir_at, open_file_at, push_name, run_crew,
};
use crate::whiteout::OverlayXattrs;
use crate::xattrs;

/// How [`copy_tree`] copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// How contents are copied.
    pub method: CopyMethod,
    /// Leave out devices, and extended attributes that may not be set (`EPERM`): what a user namespace cannot make.
    pub in_user_namespace: bool,
    /// Keep the marks by which overlay tells what the tree, as an upper directory, hides of those below: opaque, renamed and metadata-only entries, in this namespace.
    pub overlay_marks: Option<OverlayXattrs>,
}

/// The first way of copying contents that is tried; each falls back to the next where the file systems cannot do it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CopyMethod {
    /// Share the blocks (`FICLONE`): btrfs, xfs with reflink, bcachefs. Costs no space.
    #[default]
    Auto,
    /// Let the kernel copy (`copy_file_range(2)`). Holes stay holes.
    Range,
    /// Read and write. Holes stay holes.
    Plain,
}

/// Copies all that is in `from` into the empty directory `to`, and gives `to` the metadata of `from`.
///
/// Kept are contents, holes, kinds of files (sockets too), hard links inside the tree, modes, owners, modification and access times to the
/// nanosecond, and extended attributes, except those of overlay mounts and of the host's security policy. Symbolic links are copied as they are.
/// Several threads share the work. After a failure `to` is incomplete; removing it is the caller's business.
///
/// # Errors
/// The kind of the failed system call, with the path inside the tree: `PermissionDenied` where an owner, a device or an attribute may not be
/// set, `NoSpace`, `Io` with `EEXIST` when `to` is not empty.
#[doc(alias = "DirCopy")]
pub fn copy_tree(from: &RootDir, to: &RootDir, options: &CopyOptions) -> Result<()> {
    make_tree(from, to, *options, false)
}

/// Like [`copy_tree`], but only directories are made anew: everything else in `to` is another name of what is in `from`, so that whoever writes to the one writes to the other.
///
/// A file that has as many names as the file system allows, or that lies on another one, is copied.
///
/// # Errors
/// As [`copy_tree`].
#[doc(alias = "Hardlink")]
pub fn link_tree(from: &RootDir, to: &RootDir, options: &CopyOptions) -> Result<()> {
    make_tree(from, to, *options, true)
}

fn make_tree(from: &RootDir, to: &RootDir, options: CopyOptions, links: bool) -> Result<()> {
    let open =
        |root: &RootDir| open_dir_at(root, ".").map_err(|errno| Error::syscall("openat", root.path(), errno));
    let first = Pair { path: Vec::new(), from: open(from)?, to: open(to)? };
    remove_inherited_acls(&first.to).map_err(|errno| Error::syscall("fremovexattr", to.path(), errno))?;
    let shared = Shared {
        in_user_namespace: options.in_user_namespace,
        overlay_marks: options.overlay_marks,
        names_originals: links,
        contents: Contents::new(options.method),
        links: Links::new(to.clone()),
    };
    run_crew(first, |crew, pairs| {
        let mut walk =
            Walk { crew, shared: &shared, buffer: Buffer::new(), path: Vec::new(), levels: Vec::new() };
        for pair in pairs {
            walk.pair(pair)?;
        }
        Ok(())
    })?;
    Ok(())
}

/// Takes away the ACLs that `to` has from the directory it was made in: it and all in it are to be like the original.
fn remove_inherited_acls(to: &OwnedFd) -> nix::Result<()> {
    for acl in xattrs::ACLS {
        match xattr::fremove(to, acl) {
            Ok(()) | Err(Errno::ENODATA | Errno::EOPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// What all threads use.
struct Shared {
    in_user_namespace: bool,
    overlay_marks: Option<OverlayXattrs>,
    /// Whether files get another name rather than a copy.
    names_originals: bool,
    contents: Contents,
    links: Links,
}

/// A directory and its copy, made and still empty.
struct Pair {
    path: Vec<u8>,
    from: OwnedFd,
    to: OwnedFd,
}

struct Walk<'a> {
    crew: &'a Crew<Pair>,
    shared: &'a Shared,
    buffer: Buffer,
    /// Of the current directory, relative to the root.
    path: Vec<u8>,
    levels: Vec<Level>,
}

struct Level {
    listing: Listing,
    next: usize,
    /// Of the directory that is copied.
    stat: FileStat,
    /// Length of the path of the directory above.
    above_bytes: usize,
}

struct Dirs {
    from: DirStack,
    to: DirStack,
}

impl Walk<'_> {
    fn pair(&mut self, pair: Pair) -> Result<()> {
        let mut dirs = Dirs { from: DirStack::new(pair.from), to: DirStack::new(pair.to) };
        self.path = pair.path;
        self.enter(&dirs, self.path.len())?;
        while let Some(level) = self.levels.last_mut() {
            level.next += 1;
            let Some(name) = level.listing.name(level.next - 1) else {
                self.leave(&mut dirs)?;
                continue;
            };
            let (name, hint) = (name.to_owned(), level.listing.file_type(level.next - 1));
            if let Some((from, to)) = self.entry(&dirs, &name, hint)? {
                self.descend(&mut dirs, &name, from, to)?;
            }
        }
        Ok(())
    }

    fn enter(&mut self, dirs: &Dirs, above_bytes: usize) -> Result<()> {
        let stat = fstat(dirs.from.current()).map_err(|errno| self.failed("fstat", c"", errno))?;
        let listing = Listing::read(dirs.from.current(), &mut self.buffer);
        let listing = listing.map_err(|errno| self.failed("getdents64", c"", errno))?;
        self.levels.push(Level { listing, next: 0, stat, above_bytes });
        Ok(())
    }

    /// Gives a directory its metadata: not before all that is in it is made, which would change its time, be refused by its mode, or
    /// inherit its default ACL.
    fn leave(&mut self, dirs: &mut Dirs) -> Result<()> {
        let Some(done) = self.levels.pop() else { return Ok(()) };
        self.shared
            .copy_open_metadata(&dirs.from.current(), &dirs.to.current(), &done.stat)
            .map_err(|(operation, errno)| self.failed(operation, c"", errno))?;
        if !self.levels.is_empty() {
            dirs.from
                .pop()
                .and_then(|()| dirs.to.pop())
                .map_err(|errno| self.failed("openat", c"..", errno))?;
            self.path.truncate(done.above_bytes);
        }
        Ok(())
    }

    /// Goes into a directory, or gives it to a thread that waits for work.
    fn descend(&mut self, dirs: &mut Dirs, name: &CStr, from: OwnedFd, to: OwnedFd) -> Result<()> {
        if self.crew.stopped() {
            self.levels.clear();
            return Ok(());
        }
        let above_bytes = self.path.len();
        push_name(&mut self.path, name);
        if self.crew.wants_work() {
            self.crew.give(Pair { path: self.path.clone(), from, to });
            self.path.truncate(above_bytes);
            return Ok(());
        }
        let pushed = dirs.from.push(from).and_then(|()| dirs.to.push(to));
        pushed.map_err(|errno| self.failed("fstat", c"", errno))?;
        self.enter(dirs, above_bytes)
    }

    /// Copies an entry; of a directory only makes it, and gives back both.
    fn entry(&self, dirs: &Dirs, name: &CStr, hint: FileType) -> Result<Option<(OwnedFd, OwnedFd)>> {
        let file_type = match hint {
            FileType::Unknown => {
                self.stat(dirs, name)?.map_or(FileType::Unknown, |stat| FileType::from_mode(stat.st_mode))
            }
            hint => hint,
        };
        if self.shared.names_originals && !file_type.is_dir() && self.name_original(dirs, name)? {
            return Ok(None);
        }
        match file_type {
            FileType::Directory => self.directory(dirs, name),
            FileType::Regular => self.regular(dirs, name).map(|()| None),
            _ => self.special(dirs, name).map(|()| None),
        }
    }

    fn directory(&self, dirs: &Dirs, name: &CStr) -> Result<Option<(OwnedFd, OwnedFd)>> {
        let Some(from) = self.unless_gone("openat", name, open_dir_at(dirs.from.current(), name))? else {
            return Ok(None);
        };
        let to = dirs.to.current();
        mkdirat(to, name, Mode::S_IRWXU).map_err(|errno| self.failed("mkdirat", name, errno))?;
        let to = open_dir_at(to, name).map_err(|errno| self.failed("openat", name, errno))?;
        Ok(Some((from, to)))
    }

    /// Gives the file a second name instead of making a copy of it; false where it has to be copied.
    fn name_original(&self, dirs: &Dirs, name: &CStr) -> Result<bool> {
        let (from, to) = (dirs.from.current(), dirs.to.current());
        match linkat(from, name, to, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::EMLINK | Errno::EXDEV) => Ok(false),
            result => self.unless_gone("linkat", name, result).map(|_| true),
        }
    }

    fn regular(&self, dirs: &Dirs, name: &CStr) -> Result<()> {
        let Some(from) = self.unless_gone("openat", name, open_file_at(dirs.from.current(), name))? else {
            return Ok(());
        };
        let stat = fstat(&from).map_err(|errno| self.failed("fstat", name, errno))?;
        let mut to = None;
        self.link_or_make(dirs, name, &stat, || {
            let flags =
                OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            // Most often the mode is right from the start; set-id bits are not for a file that is not yet its owner's.
            let mode = Mode::from_bits_truncate(stat.st_mode & 0o777);
            to = Some(openat(dirs.to.current(), name, flags, mode).map_err(|errno| ("openat", errno))?);
            Ok(())
        })?;
        let Some(to) = to else { return Ok(()) };
        let (from, to) = (File::from(from), File::from(to));
        let copied = self.shared.contents.copy(&from, &to, &stat);
        copied.map_err(|error| error.path(self.below(name)))?;
        let done = self.shared.copy_open_metadata(&from, &to, &stat);
        done.map_err(|(operation, errno)| self.failed(operation, name, errno))
    }

    fn special(&self, dirs: &Dirs, name: &CStr) -> Result<()> {
        let Some(stat) = self.stat(dirs, name)? else { return Ok(()) };
        let file_type = FileType::from_mode(stat.st_mode);
        let is_device = matches!(file_type, FileType::CharDevice | FileType::BlockDevice);
        // A whiteout of overlay's can be made in a user namespace since Linux 5.8.
        let is_whiteout = file_type == FileType::CharDevice && stat.st_rdev == 0;
        let is_mark = is_whiteout && self.shared.overlay_marks.is_some();
        if self.shared.in_user_namespace && is_device && !is_mark {
            tracing::debug!(path = ?as_path(&self.below_bytes(name)), "a user namespace cannot make devices, left out");
            return Ok(());
        }
        let (from, to) = (dirs.from.current(), dirs.to.current());
        let made = self.link_or_make(dirs, name, &stat, || {
            if file_type.is_symlink() {
                let target = readlinkat(from, name).map_err(|errno| ("readlinkat", errno))?;
                return symlinkat(target.as_os_str(), to, name).map_err(|errno| ("symlinkat", errno));
            }
            let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
            let mode = Mode::from_bits_truncate(stat.st_mode & 0o777);
            mknodat(to, name, kind, mode, stat.st_rdev).map_err(|errno| ("mknodat", errno))
        })?;
        if made {
            let done = self.shared.copy_entry_metadata(from, to, name, &stat);
            done.map_err(|(operation, errno)| self.failed(operation, name, errno))?;
        }
        Ok(())
    }

    /// Makes a file with `create`, or a hard link to the copy that another of its names has made; false for a link.
    fn link_or_make(
        &self,
        dirs: &Dirs,
        name: &CStr,
        stat: &FileStat,
        create: impl FnOnce() -> Step,
    ) -> Result<bool> {
        let path = self.below_bytes(name);
        let made = self.shared.links.link_or_make(stat, dirs.to.current(), name, &path, create)?;
        made.map_err(|(operation, errno)| self.failed(operation, name, errno))
    }

    fn stat(&self, dirs: &Dirs, name: &CStr) -> Result<Option<FileStat>> {
        self.unless_gone("fstatat", name, lstat_at(dirs.from.current().as_fd(), name))
    }

    /// A file that vanished before it was its turn is left out.
    fn unless_gone<T>(
        &self,
        operation: &'static str,
        name: &CStr,
        result: nix::Result<T>,
    ) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Errno::ENOENT) => {
                tracing::warn!(path = ?as_path(&self.below_bytes(name)), "file vanished before it was copied, left out");
                Ok(None)
            }
            Err(errno) => Err(self.failed(operation, name, errno)),
        }
    }

    fn below_bytes(&self, name: &CStr) -> Vec<u8> {
        let mut path = self.path.clone();
        push_name(&mut path, name);
        path
    }

    fn below(&self, name: &CStr) -> std::path::PathBuf {
        as_path(&self.below_bytes(name)).to_owned()
    }

    fn failed(&self, operation: &'static str, name: &CStr, errno: Errno) -> Error {
        Error::syscall(operation, self.below(name), errno)
    }
}

/// Result of a system call, with its name if it failed.
type Step<T = ()> = std::result::Result<T, (&'static str, Errno)>;
