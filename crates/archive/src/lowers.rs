//! What the layers below hold under a directory of an upper layer.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use graphdriver_sys::{FileType, xattr};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode};

use crate::error::{Error, Result};
use crate::root::RootDir;
use crate::walk::{as_path, lstat_at};
use crate::whiteout::{self, OverlayXattrs};

/// How a layer's directory on disk marks what it hides.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LayerForm {
    /// Character devices 0/0 and an xattr, as the kernel's overlay has it.
    Overlay(OverlayXattrs),
    /// `.wh.` files.
    Aufs,
    /// As fuse-overlayfs has it: either of the above, and an xattr in any of three namespaces.
    Fuse,
}

/// What a directory's mark says about the layers below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpaqueMark {
    /// They show through.
    None,
    /// They are hidden.
    Opaque,
    /// They show through, and whiteouts in this directory may be regular files with an xattr (Linux 6.7).
    XattrWhiteouts,
}

impl LayerForm {
    /// The mark of the directory `dir`, which is open for reading.
    pub(crate) fn opaque_mark(self, dir: BorrowedFd<'_>) -> nix::Result<OpaqueMark> {
        match self {
            Self::Overlay(xattrs) => match xattr::fget(dir, xattrs.opaque()) {
                Ok(Some(value)) if value == b"y" => Ok(OpaqueMark::Opaque),
                Ok(Some(value)) if value == b"x" => Ok(OpaqueMark::XattrWhiteouts),
                Ok(_) | Err(Errno::EOPNOTSUPP) => Ok(OpaqueMark::None),
                Err(errno) => Err(errno),
            },
            Self::Aufs => opaque_file(dir),
            Self::Fuse => {
                for name in whiteout::FUSE_OPAQUE {
                    match xattr::fget(dir, name) {
                        Ok(Some(value)) if value == b"y" => return Ok(OpaqueMark::Opaque),
                        Ok(_) | Err(Errno::EOPNOTSUPP) => {}
                        Err(errno) => return Err(errno),
                    }
                }
                opaque_file(dir)
            }
        }
    }

    /// Whether an entry is a whiteout by its name, `.wh.<name>`.
    pub(crate) fn marks_by_name(self) -> bool {
        matches!(self, Self::Aufs | Self::Fuse)
    }

    /// Whether the entry `name` of `dir` is a whiteout in the kernel's form; in AUFS form [the name alone](Self::marks_by_name) tells.
    pub(crate) fn is_whiteout(
        self,
        dir: BorrowedFd<'_>,
        mark: OpaqueMark,
        name: &CStr,
        stat: &FileStat,
    ) -> nix::Result<bool> {
        match (self, FileType::from_mode(stat.st_mode)) {
            (Self::Overlay(_) | Self::Fuse, FileType::CharDevice) => Ok(stat.st_rdev == 0),
            (Self::Overlay(xattrs), FileType::Regular)
                if stat.st_size == 0 && mark == OpaqueMark::XattrWhiteouts =>
            {
                Ok(xattr::get_at(dir, name, xattrs.whiteout())?.is_some())
            }
            _ => Ok(false),
        }
    }
}

/// What shows through from below at one name.
#[derive(Debug)]
pub(crate) enum Below {
    /// Nothing: no layer has it, or one hides it.
    Nothing,
    /// Something other than a directory.
    File,
    /// A directory, which looks like that of the uppermost layer that has it, and is merged from these layers.
    Dir { uppermost: FileStat, merged: Merged },
}

/// The layers, by index, whose directories together show through at a path; uppermost first.
pub(crate) type Merged = Vec<usize>;

/// The layers below an upper one, uppermost first.
#[derive(Clone, Debug)]
pub(crate) struct Lowers {
    roots: Vec<RootDir>,
    form: LayerForm,
}

impl Lowers {
    pub(crate) fn new(roots: Vec<RootDir>, form: LayerForm) -> Self {
        Self { roots, form }
    }

    pub(crate) fn form(&self) -> LayerForm {
        self.form
    }

    /// What shows through at the root: all layers.
    pub(crate) fn all(&self) -> Merged {
        (0..self.roots.len()).collect()
    }

    /// Opens the directory `path` of the layers `merged`, down to the first that is opaque there.
    pub(crate) fn open(&self, path: &[u8], merged: &[usize]) -> Result<MergedDir> {
        let mut dirs = Vec::with_capacity(merged.len());
        for &index in merged {
            // O_NOFOLLOW: only real directories are merged, and each component above was seen to be one.
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
            let fd = self.roots[index].open_at(as_path(path), flags, Mode::empty())?;
            let failed = |errno| Error::syscall("fgetxattr", as_path(path), errno);
            let mark = self.form.opaque_mark(fd.as_fd()).map_err(failed)?;
            dirs.push(LowerDir { index, fd, mark });
            if mark == OpaqueMark::Opaque {
                break;
            }
        }
        Ok(MergedDir { dirs, form: self.form })
    }
}

/// The directories that are merged at one path, held open.
#[derive(Debug)]
pub(crate) struct MergedDir {
    dirs: Vec<LowerDir>,
    form: LayerForm,
}

#[derive(Debug)]
struct LowerDir {
    index: usize,
    fd: OwnedFd,
    mark: OpaqueMark,
}

impl MergedDir {
    /// What shows through at `name`.
    pub(crate) fn below(&self, name: &CStr) -> nix::Result<Below> {
        let mut found: Option<(FileStat, Merged)> = None;
        for lower in &self.dirs {
            match self.entry(lower, name)? {
                Entry::Missing => {}
                Entry::Present(stat) if FileType::from_mode(stat.st_mode).is_dir() => {
                    found.get_or_insert((stat, Merged::new())).1.push(lower.index);
                }
                Entry::Present(_) if found.is_none() => return Ok(Below::File),
                Entry::Whiteout | Entry::Present(_) => break,
            }
        }
        Ok(found.map_or(Below::Nothing, |(uppermost, merged)| Below::Dir { uppermost, merged }))
    }

    /// The first of the merged directories that has the directory `name`, to read its attributes.
    pub(crate) fn dir_of(&self, merged: &Merged) -> Option<BorrowedFd<'_>> {
        let first = *merged.first()?;
        self.dirs.iter().find(|lower| lower.index == first).map(|lower| lower.fd.as_fd())
    }

    fn entry(&self, lower: &LowerDir, name: &CStr) -> nix::Result<Entry> {
        let dir = lower.fd.as_fd();
        if let Some(stat) = exists(dir, name.to_bytes())? {
            let whiteout = self.form.is_whiteout(dir, lower.mark, name, &stat)?;
            return Ok(if whiteout { Entry::Whiteout } else { Entry::Present(stat) });
        }
        if self.form.marks_by_name() && exists(dir, &[whiteout::PREFIX, name.to_bytes()].concat())?.is_some()
        {
            return Ok(Entry::Whiteout);
        }
        Ok(Entry::Missing)
    }
}

enum Entry {
    Missing,
    Whiteout,
    Present(FileStat),
}

fn opaque_file(dir: BorrowedFd<'_>) -> nix::Result<OpaqueMark> {
    Ok(match exists(dir, whiteout::OPAQUE)? {
        Some(_) => OpaqueMark::Opaque,
        None => OpaqueMark::None,
    })
}

/// What `name` in `dir` is, or `None`; a name that the file system finds too long is not there.
fn exists(dir: BorrowedFd<'_>, name: &[u8]) -> nix::Result<Option<FileStat>> {
    match lstat_at(dir, name) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ENAMETOOLONG) => Ok(None),
        Err(errno) => Err(errno),
    }
}
