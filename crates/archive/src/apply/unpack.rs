//! Making what entries say, in the order of the archive.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use graphdriver_sys::capability::{Capability, has_effective};
use graphdriver_sys::{FileType, xattr};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstatat, makedev, mkdirat, mknodat};
use nix::unistd::{ftruncate, symlinkat};

use super::aufs_links::AufsLinks;
use super::directories::{Directories, Directory};
use super::file::OpenFile;
use super::late::Late;
use super::links::DeferredLinks;
use super::metadata::{Metadata, Rules, Target};
use super::options::{Applied, ApplyOptions, WhiteoutMode};
use super::role::Role;
use super::unpacked::Unpacked;
use super::whiteouts::set_opaque;
use super::writers::{Job, Part, Writers};
use crate::error::{Error, Result};
use crate::override_stat;
use crate::root::{RootDir, clean_name, remove_at};
use crate::tar::read::{Entry, EntryKind, Reader};

/// A file's contents are handed over in parts of this size, so that several threads may write one file and few buffers are held.
const JOB_BYTES: u64 = 1 << 20;
/// The same for the fragments of a sparse file.
const JOB_PARTS: usize = 1024;
/// What may be kept in memory about directories, links and paths until the end of the archive.
const MAX_REMEMBERED_BYTES: usize = 512 << 20;

/// Fills a directory from entries.
pub(super) struct Unpacker<'a> {
    pub(super) root: &'a RootDir,
    pub(super) options: &'a ApplyOptions,
    pub(super) rules: Arc<Rules>,
    pub(super) writers: &'a Writers,
    pub(super) directories: Directories,
    pub(super) late: Late,
    pub(super) links: DeferredLinks,
    pub(super) aufs_links: AufsLinks,
    pub(super) unpacked: Unpacked,
    /// Whiteouts of this archive are on disk as devices.
    pub(super) made_whiteouts: bool,
    /// The archive makes the root opaque.
    pub(super) root_opaque: bool,
    root_has_entry: bool,
    remembered_bytes: usize,
    /// Where contents were that the archive itself took away again, or never had a place for.
    lost: Option<PathBuf>,
    applied: Applied,
}

impl<'a> Unpacker<'a> {
    pub(super) fn new(
        root: &'a RootDir,
        options: &'a ApplyOptions,
        writers: &'a Writers,
        max_directories: usize,
    ) -> Self {
        Self {
            root,
            options,
            rules: Arc::new(Rules::new(options)),
            writers,
            directories: Directories::new(root.clone(), max_directories),
            late: Late::new(has_effective(Capability::DacOverride).unwrap_or(false)),
            links: DeferredLinks::default(),
            aufs_links: AufsLinks::default(),
            unpacked: Unpacked::default(),
            made_whiteouts: false,
            root_opaque: false,
            root_has_entry: false,
            remembered_bytes: 0,
            lost: None,
            applied: Applied::default(),
        }
    }

    /// Makes what `entry`, which `reader` just gave, says.
    ///
    /// # Errors
    /// As [`apply`](super::apply).
    pub(super) fn entry(&mut self, reader: &mut Reader<'_>, entry: Entry) -> Result<()> {
        self.applied.entries += 1;
        self.applied.bytes = self.applied.bytes.saturating_add(entry.size);
        let path = clean_name(&entry.name)?;
        let role = Role::of(&path, entry.kind, self.options.whiteouts)?;
        if reader.data_left() > 0 && !matches!(role, Role::File) {
            self.lost.get_or_insert_with(|| path.clone());
        }
        match role {
            Role::Root => self.root_entry(entry),
            Role::File => self.file(reader, entry, path),
            Role::Whiteout(hidden) => self.whiteout(&entry, &path, &hidden),
            Role::Opaque(directory) => self.opaque(&path, &directory),
            Role::AufsLink(name) => self.aufs_links.keep(self.root, name, reader, entry, &path),
            Role::Skip => Ok(()),
        }
    }

    /// Does what must wait for the last entry. Also tells a path whose contents were in the archive and are not in the directory, if it began empty.
    ///
    /// # Errors
    /// As [`apply`](super::apply).
    pub(super) fn finish(mut self) -> Result<(Applied, Option<PathBuf>)> {
        self.link_deferred()?;
        self.writers.finish()?;
        if self.root_opaque {
            self.hide_lower_roots()?;
        }
        if self.rules.forces_mask() && !self.root_has_entry && !has_override(self.root)? {
            let metadata = self.rules.default_directory()?;
            metadata.set(Target::Open(self.root.as_fd()), Path::new(""), &self.rules)?;
        }
        self.late.set(self.root, &mut self.directories)?;
        self.rules.report();
        Ok((self.applied, self.lost))
    }

    fn root_entry(&mut self, mut entry: Entry) -> Result<()> {
        let path = Path::new("");
        if entry.kind != EntryKind::Directory {
            return Err(Error::invalid_archive("the entry of the root is not a directory")
                .path(OsStr::from_bytes(&entry.name)));
        }
        self.root_has_entry = true;
        let metadata = self.rules.metadata(&mut entry, path)?;
        self.give_directory(Target::Open(self.root.as_fd()), path, metadata)
    }

    fn file(&mut self, reader: &mut Reader<'_>, entry: Entry, path: PathBuf) -> Result<()> {
        if self.options.whiteouts == WhiteoutMode::Execute {
            let added = self.unpacked.insert(&path);
            self.remember(added * 2 * size_of::<u128>())?;
        }
        self.links.replaced(&path, entry.kind == EntryKind::Directory);
        match entry.kind {
            EntryKind::Regular => self.regular(reader, entry, path),
            EntryKind::Directory => self.directory(entry, &path),
            EntryKind::Symlink => self.symlink(entry, &path),
            EntryKind::Link => self.link(&entry, &path),
            EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Fifo => self.special(entry, path),
        }
    }

    fn regular(&mut self, reader: &mut Reader<'_>, mut entry: Entry, path: PathBuf) -> Result<()> {
        let file = self.create(&mut entry, path)?;
        let mut feed = Feed { writers: self.writers, file, parts: Vec::new(), bytes: 0 };
        match &entry.sparse {
            None => feed.range(reader, 0, reader.data_left())?,
            Some(map) => {
                let size = i64::try_from(entry.size).unwrap_or(i64::MAX);
                ftruncate(feed.file.file(), size)
                    .map_err(|errno| Error::syscall("ftruncate", feed.file.path(), errno))?;
                for segment in map.segments() {
                    feed.range(reader, segment.offset, segment.bytes)?;
                }
            }
        }
        feed.finish()
    }

    /// Makes the regular file of `entry`, empty.
    pub(super) fn create(&mut self, entry: &mut Entry, path: PathBuf) -> Result<Arc<OpenFile>> {
        self.writers.admit()?;
        let mut metadata = self.rules.metadata(entry, &path)?;
        let parent = self.parent(&path)?;
        metadata.inherited_acl = parent.default_acl;
        // Set-id bits come after owner and contents, either of which takes them away.
        let mode = Mode::from_bits_truncate(metadata.mode.unwrap_or(0) & 0o777);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = self.make("openat", &parent, &path, |dir, name| openat(dir, name, flags, mode))?;
        let (rules, open_files) = (Arc::clone(&self.rules), self.writers.open_files());
        Ok(Arc::new(OpenFile::new(File::from(fd), path, metadata, rules, open_files)))
    }

    fn directory(&mut self, mut entry: Entry, path: &Path) -> Result<()> {
        let mut metadata = self.rules.metadata(&mut entry, path)?;
        let parent = self.parent(path)?;
        let new = self.make_directory(&parent, path, metadata.mode)?;
        metadata.inherited_acl = new && parent.default_acl;
        self.give_directory(Target::Entry(parent.as_fd(), name_of(path)?), path, metadata)
    }

    /// Makes a directory, in place of what is no directory; whether there was none.
    pub(super) fn make_directory(
        &mut self,
        parent: &Directory,
        path: &Path,
        mode: Option<u32>,
    ) -> Result<bool> {
        let name = name_of(path)?;
        let mode = Mode::from_bits_truncate(mode.unwrap_or(0o755) & 0o777);
        let failed = |errno| Error::syscall("mkdirat", path, errno);
        match mkdirat(parent, name, mode) {
            Ok(()) => {
                self.bring_back(parent, path, true)?;
                return Ok(true);
            }
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
        if self.clear(parent, path, true)? == Cleared::Kept {
            return Ok(false);
        }
        mkdirat(parent, name, mode).map_err(failed)?;
        // What was there hid the directory of the same name below; so must this one.
        match self.options.whiteouts {
            WhiteoutMode::Overlay(namespace) => {
                set_opaque(Target::Entry(parent.as_fd(), name), path, namespace)?;
            }
            WhiteoutMode::Fuse => self.make_opaque_file(path)?,
            WhiteoutMode::Execute | WhiteoutMode::Aufs => {}
        }
        Ok(true)
    }

    /// Gives a directory its metadata, its times at the end.
    pub(super) fn give_directory(
        &mut self,
        target: Target<'_>,
        path: &Path,
        mut metadata: Metadata,
    ) -> Result<()> {
        self.remember_path(path)?;
        metadata.mode = metadata.mode.map(|mode| self.late.mode(path, mode));
        metadata.set_access(target, path, &self.rules)?;
        if let Some(times) = metadata.times {
            self.late.times(path, times);
        }
        if metadata.xattrs.iter().any(|xattr| xattr.name.as_bytes() == b"system.posix_acl_default") {
            self.directories.forget();
        }
        Ok(())
    }

    fn symlink(&mut self, mut entry: Entry, path: &Path) -> Result<()> {
        let metadata = self.rules.metadata(&mut entry, path)?;
        if entry.link.is_empty() {
            return Err(Error::invalid_archive("a symbolic link without a target").path(path));
        }
        let parent = self.parent(path)?;
        // The target may be anything: symbolic links never lead out of a root, whatever they say.
        let target = OsStr::from_bytes(&entry.link);
        self.make("symlinkat", &parent, path, |dir, name| symlinkat(target, dir, name))?;
        metadata.set(Target::Entry(parent.as_fd(), name_of(path)?), path, &self.rules)
    }

    fn special(&mut self, mut entry: Entry, path: PathBuf) -> Result<()> {
        if self.rules.forces_mask() {
            let file = self.create(&mut entry, path)?;
            return self.writers.submit(Job { file, parts: Vec::new() });
        }
        let kind = match entry.kind {
            EntryKind::CharDevice => SFlag::S_IFCHR,
            EntryKind::BlockDevice => SFlag::S_IFBLK,
            _ => SFlag::S_IFIFO,
        };
        if kind != SFlag::S_IFIFO && self.options.in_user_namespace {
            tracing::debug!(?path, "left out a device, which a user namespace cannot make");
            return Ok(());
        }
        let path = path.as_path();
        let mut metadata = self.rules.metadata(&mut entry, path)?;
        let parent = self.parent(path)?;
        metadata.inherited_acl = parent.default_acl;
        let (major, minor) = entry.device;
        let device = if kind == SFlag::S_IFIFO { 0 } else { makedev(major.into(), minor.into()) };
        let mode = Mode::from_bits_truncate(entry.mode & 0o777);
        self.make("mknodat", &parent, path, |dir, name| mknodat(dir, name, kind, mode, device))?;
        metadata.set(Target::Entry(parent.as_fd(), name_of(path)?), path, &self.rules)
    }

    /// Makes something that must not exist yet, in place of what does.
    pub(super) fn make<T>(
        &mut self,
        call: &'static str,
        parent: &Directory,
        path: &Path,
        make: impl Fn(&Directory, &OsStr) -> nix::Result<T>,
    ) -> Result<T> {
        let name = name_of(path)?;
        let mut result = make(parent, name);
        if let Err(Errno::EEXIST) = result {
            // Asked for only now: most archives have no name twice.
            self.clear(parent, path, false)?;
            result = make(parent, name);
        }
        let result = result.map_err(|errno| Error::syscall(call, path, errno))?;
        self.bring_back(parent, path, false)?;
        Ok(result)
    }

    /// Removes what is at `path`, but not a directory that is to stay.
    pub(super) fn clear(&mut self, parent: &Directory, path: &Path, keep_directory: bool) -> Result<Cleared> {
        let name = name_of(path)?;
        let kind = match fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_mode(stat.st_mode),
            Err(Errno::ENOENT) => return Ok(Cleared::Removed),
            Err(errno) => return Err(Error::syscall("fstatat", path, errno)),
        };
        if kind.is_dir() && keep_directory {
            return Ok(Cleared::Kept);
        }
        remove_at(parent.as_fd(), name, path)?;
        self.removed(path, kind);
        Ok(Cleared::Removed)
    }

    /// What was at `path`, of this kind, was removed.
    pub(super) fn removed(&mut self, path: &Path, kind: FileType) {
        if kind.is_dir() || kind == FileType::Regular {
            self.lost.get_or_insert_with(|| path.to_owned());
        }
        if kind.is_dir() {
            self.late.directory_removed();
        }
        if kind.is_dir() || kind == FileType::Symlink {
            self.directories.forget();
        }
    }

    /// The directory that `path` is in, made if it is missing.
    pub(super) fn parent(&mut self, path: &Path) -> Result<Rc<Directory>> {
        self.existing_or_implied(path.parent().unwrap_or(Path::new("")))
    }

    /// Counts what is kept until the end.
    ///
    /// # Errors
    /// `InvalidArchive` when it is more than any layer needs.
    pub(super) fn remember(&mut self, bytes: usize) -> Result<()> {
        self.remembered_bytes += bytes;
        if self.remembered_bytes <= MAX_REMEMBERED_BYTES {
            return Ok(());
        }
        Err(Error::invalid_archive(format!("paths take more than {MAX_REMEMBERED_BYTES} bytes of memory")))
    }

    pub(super) fn remember_path(&mut self, path: &Path) -> Result<()> {
        self.remember(path.as_os_str().len() + 96)
    }
}

/// What became of what stood in the way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cleared {
    /// A directory, which stays.
    Kept,
    /// Nothing is in the way any more.
    Removed,
}

/// The last component of a path that is not the root.
pub(super) fn name_of(path: &Path) -> Result<&OsStr> {
    path.file_name().ok_or_else(|| Error::invalid_archive("an entry takes the place of the root").path(path))
}

/// Hands the contents of one file to the writers.
struct Feed<'a> {
    writers: &'a Writers,
    file: Arc<OpenFile>,
    parts: Vec<Part>,
    bytes: u64,
}

impl Feed<'_> {
    /// The next `bytes` bytes of the entry's data belong at `offset`.
    fn range(&mut self, reader: &mut Reader<'_>, mut offset: u64, bytes: u64) -> Result<()> {
        let end = offset + bytes;
        while offset < end {
            let Some(data) = reader.data((end - offset).min(JOB_BYTES - self.bytes))? else {
                return Err(
                    Error::invalid_archive("an entry has less data than its size").path(self.file.path())
                );
            };
            let length = data.len() as u64;
            self.parts.push(Part { offset, data });
            offset += length;
            self.bytes += length;
            if self.bytes == JOB_BYTES || self.parts.len() == JOB_PARTS {
                self.bytes = 0;
                let parts = std::mem::take(&mut self.parts);
                self.writers.submit(Job { file: Arc::clone(&self.file), parts })?;
            }
        }
        Ok(())
    }

    /// Gives the file away; the last job to end finishes it.
    fn finish(self) -> Result<()> {
        self.writers.submit(Job { file: self.file, parts: self.parts })
    }
}

/// Whether it is noted what the root is meant to be. Who made it did, and an archive without an entry of it says nothing else.
fn has_override(root: &RootDir) -> Result<bool> {
    match xattr::fget(root, override_stat::XATTR) {
        Ok(value) => Ok(value.is_some()),
        Err(Errno::EOPNOTSUPP) => Ok(false),
        Err(errno) => Err(Error::syscall("fgetxattr", root.path(), errno)),
    }
}
