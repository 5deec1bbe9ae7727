//! Files of a layer that are meant to be something else than they are on disk, which an attribute of theirs notes.
//!
//! fuse-overlayfs heeds the notes of a layer whose root has one, and only those in the same attribute: its own, or that of containers/storage.

use std::ffi::{CStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;

use graphdriver_sys::{FileType, xattr};
use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::{FileStat, SFlag, fstat, makedev};

use super::{LayerDir, LayerForm, LayerStack};
use crate::error::{Error, ErrorKind, Result};
use crate::found::{Found, Kind, Place};
use crate::override_stat::{OverrideStat, OverrideType, XATTR};
use crate::root::RootDir;
use crate::walk::as_path;
use crate::xattrs::{self, Xattr};

/// In the order in which fuse-overlayfs looks for them.
const ATTRIBUTES: [&CStr; 2] = [c"user.fuseoverlayfs.override_stat", XATTR];

/// The attribute with the notes of a layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Notes(&'static CStr);

impl Notes {
    /// Those of the layer with this root; `None` when its files are what they are on disk.
    ///
    /// # Errors
    /// The kind of the failed system call.
    pub(super) fn of_layer(root: &RootDir) -> Result<Option<Self>> {
        for name in ATTRIBUTES {
            match xattr::fget(root, name) {
                Ok(Some(_)) => return Ok(Some(Self(name))),
                Ok(None) | Err(Errno::EOPNOTSUPP) => {}
                Err(errno) => return Err(Error::syscall("fgetxattr", root.path(), errno)),
            }
        }
        Ok(None)
    }

    fn read(self, fd: BorrowedFd<'_>, path: &[u8]) -> Result<Option<OverrideStat>> {
        let value = xattr::fget(fd, self.0);
        let value = value.map_err(|errno| Error::syscall("fgetxattr", as_path(path), errno))?;
        value.map(|value| OverrideStat::parse(&value)).transpose().map_err(|error| {
            let detail = format!("the attribute {}: {error}", self.0.to_string_lossy());
            Error::new(ErrorKind::InvalidArgument, "read layer").path(as_path(path)).detail(detail)
        })
    }
}

impl LayerStack {
    /// Makes of `found`, in the layer numbered `layer`, what it is meant to be.
    ///
    /// # Errors
    /// `InvalidArgument` for a note that cannot be understood; the kind of the failed system call.
    pub(super) fn heed(&self, layer: usize, found: &mut Found, place: Place<'_>) -> Result<()> {
        let Some(notes) = self.notes_of(layer, &mut found.xattrs) else { return Ok(()) };
        let fd = match &found.kind {
            Kind::Regular(fd) | Kind::Directory(Some(fd)) => fd.as_fd(),
            _ => return Ok(()),
        };
        let Some(meant) = notes.read(fd, place.path)? else { return Ok(()) };
        take_over(&mut found.stat, meant);
        let special = |flag: SFlag, kind| Some((flag, kind));
        let becomes = match meant.file_type {
            None | Some(OverrideType::File | OverrideType::Directory) => None,
            Some(OverrideType::Fifo) => special(SFlag::S_IFIFO, Kind::Fifo),
            Some(OverrideType::Socket) => special(SFlag::S_IFSOCK, Kind::Socket),
            Some(OverrideType::CharDevice { major, minor }) => {
                found.stat.st_rdev = makedev(major.into(), minor.into());
                special(SFlag::S_IFCHR, Kind::Device(FileType::CharDevice))
            }
            Some(OverrideType::BlockDevice { major, minor }) => {
                found.stat.st_rdev = makedev(major.into(), minor.into());
                special(SFlag::S_IFBLK, Kind::Device(FileType::BlockDevice))
            }
            Some(OverrideType::Symlink) => special(SFlag::S_IFLNK, Kind::Symlink(target(fd, place)?)),
        };
        if let Some((flag, kind)) = becomes {
            found.stat.st_mode = flag.bits() | found.stat.st_mode & 0o7777;
            found.kind = kind;
        }
        Ok(())
    }

    /// How the directory, which is open, is meant to look, and its portable attributes.
    ///
    /// # Errors
    /// As [`heed`](Self::heed).
    pub(crate) fn look_of(&self, dir: &LayerDir) -> Result<(FileStat, Vec<Xattr>)> {
        let path = &dir.origin.path;
        let failed = |operation| move |errno| Error::syscall(operation, as_path(path), errno);
        // The uppermost of those that were found is always open.
        let fd = dir.kept().ok_or(Errno::EBADF).map_err(failed("fstat"))?;
        let mut stat = fstat(fd).map_err(failed("fstat"))?;
        let mut portable = xattrs::of_file(fd).map_err(failed("fgetxattr"))?;
        if let Some(notes) = self.notes_of(dir.origin.layer, &mut portable)
            && let Some(meant) = notes.read(fd, path)?
        {
            take_over(&mut stat, meant);
        }
        Ok((stat, portable))
    }

    /// Whether some attributes are notes, which mean what they say only in the layer they are in.
    pub(crate) fn has_notes(&self) -> bool {
        matches!(self.form, LayerForm::Fuse)
    }

    /// The notes of a layer. They are no attribute of the file: in a layer without notes they are copies of what a layer below meant.
    fn notes_of(&self, layer: usize, portable: &mut Vec<Xattr>) -> Option<Notes> {
        if !self.has_notes() {
            return None;
        }
        portable.retain(|attribute| attribute.name.as_c_str() != XATTR);
        self.notes.get(layer).copied().flatten()
    }
}

fn take_over(stat: &mut FileStat, meant: OverrideStat) {
    stat.st_uid = meant.owner.uid;
    stat.st_gid = meant.owner.gid;
    stat.st_mode = stat.st_mode & SFlag::S_IFMT.bits() | meant.mode;
}

/// The target of a symbolic link that is a file on disk.
fn target(fd: BorrowedFd<'_>, place: Place<'_>) -> Result<OsString> {
    let failed = |error| Error::io("read", error).path(as_path(place.path));
    let file = File::from(fd.try_clone_to_owned().map_err(failed)?);
    let mut target = Vec::new();
    file.take(libc::PATH_MAX.unsigned_abs().into()).read_to_end(&mut target).map_err(failed)?;
    Ok(OsString::from_vec(target))
}
