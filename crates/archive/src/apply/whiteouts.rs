//! Whiteouts and opaque marks: executed, or written down.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use graphdriver_sys::FileType;
use graphdriver_sys::dents::{Buffer, Dents};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, SFlag, fstatat, mknodat};

use super::directories::Directory;
use super::implied::is_whiteout;
use super::lowers;
use super::metadata::{Metadata, Target};
use super::options::WhiteoutMode;
use super::unpack::{Unpacker, name_of};
use crate::error::{Error, ErrorKind, Result};
use crate::root::{RootDir, remove_at};
use crate::tar::read::Entry;
use crate::whiteout::OverlayXattrs;

impl Unpacker<'_> {
    /// The entry at `path` takes `hidden` away.
    pub(super) fn whiteout(&mut self, entry: &Entry, path: &Path, hidden: &Path) -> Result<()> {
        self.links.replaced(hidden, false);
        match self.options.whiteouts {
            WhiteoutMode::Execute | WhiteoutMode::Aufs => self.remove(hidden),
            WhiteoutMode::Overlay(_) | WhiteoutMode::Fuse => self.hide(entry, path, hidden),
        }
    }

    /// The entry at `path` makes `directory` opaque.
    pub(super) fn opaque(&mut self, path: &Path, directory: &Path) -> Result<()> {
        if matches!(self.options.whiteouts, WhiteoutMode::Execute | WhiteoutMode::Aufs) {
            return self.sweep(directory);
        }
        if self.made_whiteouts && self.is_hidden(directory)? {
            // Nothing of a directory that is hidden itself shows through.
            return Ok(());
        }
        let open = self.existing_or_implied(directory)?;
        let WhiteoutMode::Overlay(namespace) = self.options.whiteouts else {
            return self.make_opaque_file(directory);
        };
        self.root_opaque |= directory.as_os_str().is_empty();
        set_opaque(Target::Open(open.as_fd()), path, namespace)
    }

    /// Overlay mounts do not look whether the root of a layer is opaque, so what it hides is hidden one by one.
    pub(super) fn hide_lower_roots(&mut self) -> Result<()> {
        let WhiteoutMode::Overlay(namespace) = self.options.whiteouts else { return Ok(()) };
        let root = self.directories.open(Path::new(""))?;
        for lower in &self.options.lowers {
            for name in names(lower, Path::new(""))? {
                let path = Path::new(&name);
                match mknodat(&root, name.as_os_str(), SFlag::S_IFCHR, Mode::empty(), 0) {
                    Ok(()) => {}
                    Err(Errno::EEXIST) => {
                        let stat = fstatat(&root, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
                            .map_err(|errno| Error::syscall("fstatat", path, errno))?;
                        if FileType::from_mode(stat.st_mode).is_dir() {
                            set_opaque(Target::Entry(root.as_fd(), &name), path, namespace)?;
                        }
                    }
                    Err(errno) => return Err(cannot_hide(path, errno)),
                }
            }
        }
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> Result<()> {
        let parent = match self.directories.open(path.parent().unwrap_or(Path::new(""))) {
            Ok(parent) => parent,
            Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::ENOTDIR)) => return Ok(()),
            Err(error) => return Err(error),
        };
        self.clear(&parent, path, false).map(drop)
    }

    fn hide(&mut self, entry: &Entry, path: &Path, hidden: &Path) -> Result<()> {
        // In a directory that only this layer has, overlay mounts list the mark itself, as a file that cannot be opened.
        let lowers = &self.options.lowers;
        if !lowers.is_empty() && !lowers::show(lowers, hidden, self.options.whiteouts)? {
            return self.remove(hidden);
        }
        let above = hidden.parent().unwrap_or(Path::new(""));
        let parent = match self.directories.open(above) {
            Ok(parent) => parent,
            // Inside a directory that is hidden itself; archives of nested deletions have such.
            Err(error)
                if matches!(error.errno(), Some(Errno::ENOTDIR | Errno::ENOENT))
                    && self.is_hidden(above)? =>
            {
                return Ok(());
            }
            Err(_) => self.existing_or_implied(above)?,
        };
        let mark = if self.options.whiteouts == WhiteoutMode::Fuse {
            self.make_whiteout_file(&parent, hidden)?
        } else {
            self.hide_at(&parent, hidden)?;
            hidden.to_owned()
        };
        self.made_whiteouts = true;
        let Some(owner) = self.rules.host_owner(entry.owner, path)? else { return Ok(()) };
        if self.rules.forces_mask() {
            return Ok(());
        }
        let metadata = Metadata {
            owner: Some(owner),
            mode: None,
            xattrs: Vec::new(),
            times: None,
            inherited_acl: false,
        };
        metadata.set_access(Target::Entry(parent.as_fd(), name_of(&mark)?), path, &self.rules)
    }

    fn hide_at(&mut self, parent: &Directory, path: &Path) -> Result<()> {
        let name = name_of(path)?;
        let make = || mknodat(parent, name, SFlag::S_IFCHR, Mode::empty(), 0);
        match make() {
            Ok(()) => return Ok(()),
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(cannot_hide(path, errno)),
        }
        let stat = fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        if stat.is_ok_and(|stat| is_whiteout(&stat)) {
            return Ok(());
        }
        self.clear(parent, path, false)?;
        make().map_err(|errno| cannot_hide(path, errno))
    }

    /// Removes what is below `directory` and not from this archive.
    fn sweep(&mut self, directory: &Path) -> Result<()> {
        let mut pending = vec![directory.to_owned()];
        let mut removed = false;
        while let Some(path) = pending.pop() {
            let open = match self.root.open_dir(&path) {
                Ok(open) => open,
                Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::ENOTDIR)) => continue,
                Err(error) => return Err(error),
            };
            for name in list(&open, &path)? {
                let child: PathBuf = path.join(&name.0);
                if !self.unpacked.contains(&child) {
                    remove_at(open.as_fd(), &name.0, &child)?;
                    removed = true;
                } else if name.1.is_dir() {
                    pending.push(child);
                }
            }
        }
        if removed {
            self.removed(directory, FileType::Directory);
        }
        Ok(())
    }
}

/// Marks a directory opaque. Unlike other attributes this one is never left out: without it files come back that the layer removed.
pub(super) fn set_opaque(target: Target<'_>, path: &Path, namespace: OverlayXattrs) -> Result<()> {
    let name = namespace.opaque();
    let failed = |errno| Error::syscall("setxattr", path, errno).detail(name.to_string_lossy().into_owned());
    target.set_xattr(name, b"y").map_err(failed)
}

fn cannot_hide(path: &Path, errno: Errno) -> Error {
    let error = Error::syscall("mknodat", path, errno);
    if errno != Errno::EPERM {
        return error;
    }
    // Since Linux 5.8 the device 0/0 needs no privilege.
    Error::new(ErrorKind::NotSupported, "mknodat")
        .path(path)
        .detail("whiteouts in overlay's form need CAP_MKNOD, or Linux 5.8 in a user namespace")
        .source(std::io::Error::from(errno))
}

fn names(root: &RootDir, path: &Path) -> Result<Vec<OsString>> {
    let open = root.open_dir(path)?;
    Ok(list(&open, path)?.into_iter().map(|(name, _)| name).collect())
}

/// Names and kinds in a directory, all read before any is removed.
fn list(directory: &impl AsFd, path: &Path) -> Result<Vec<(OsString, FileType)>> {
    let failed = |errno| Error::syscall("getdents64", path, errno);
    let mut buffer = Buffer::new();
    let mut dents = Dents::new(directory.as_fd(), &mut buffer);
    let mut entries = Vec::new();
    while let Some(entry) = dents.next_entry().map_err(failed)? {
        let mut kind = entry.file_type;
        if kind == FileType::Unknown {
            let stat = fstatat(directory, entry.os_name(), AtFlags::AT_SYMLINK_NOFOLLOW);
            kind = FileType::from_mode(stat.map_err(|errno| Error::syscall("fstatat", path, errno))?.st_mode);
        }
        entries.push((entry.os_name().to_owned(), kind));
    }
    Ok(entries)
}
