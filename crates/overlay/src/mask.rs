//! Layers filled under `force_mask`: every file has the same mode on disk, and says in the attribute `user.containers.override_stat` what it is meant to
//! be.
//!
//! fuse-overlayfs shows the files of a layer as they are meant to be if the layer's root has such a note; the kernel's overlay never does. So all this
//! is for homes with a mount program. What is written to a mount fuse-overlayfs notes in an attribute of its own, `user.fuseoverlayfs.override_stat`, and
//! of a layer whose root has both it reads that one only (1.10). Hence a layer is either filled, and then only read, or written to through mounts.

use std::ffi::CStr;
use std::fs::{self, File};
use std::path::Path;

use graphdriver_archive::override_stat::{OverrideStat, OverrideType, XATTR};
use graphdriver_core::{Error, ErrorKind, Result};
use graphdriver_sys::xattr::{self, SetFlags};
use nix::errno::Errno;
use nix::sys::stat::SFlag;

use crate::create::{DirectoryLook, make_dir};
use crate::home::Home;

/// Where fuse-overlayfs keeps its notes.
const PROGRAM_XATTR: &CStr = c"user.fuseoverlayfs.override_stat";

/// How the directory that holds what a layer adds is meant to look.
pub(crate) fn look_of_root(home: &Home, diff: &Path) -> Result<DirectoryLook> {
    Ok(match recorded(home, diff)? {
        Some(stat) => DirectoryLook { mode: stat.mode, owner: stat.owner },
        None => DirectoryLook::of(diff)?,
    })
}

/// Makes the directory that holds what a layer adds, to look as `look` says in a mount.
pub(crate) fn make_root(home: &Home, diff: &Path, look: DirectoryLook) -> Result<()> {
    let lenient = home.options.ignore_chown_errors;
    let Some(mode) = home.options.force_mask else { return make_dir(diff, look, lenient) };
    make_dir(diff, DirectoryLook { mode, ..look }, lenient)?;
    let stat = OverrideStat { owner: look.owner, mode: look.mode, file_type: Some(OverrideType::Directory) };
    set(&open(diff)?, diff, XATTR, &stat.to_string())
}

/// Whether one of these directories of layers does not look as it is meant to, and neither do the files in it.
pub(crate) fn hides_any<'a>(home: &Home, diffs: impl IntoIterator<Item = &'a Path>) -> Result<bool> {
    for diff in diffs {
        if recorded(home, diff)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes sure that what is written under a mask can be read again.
///
/// # Errors
/// `NotSupported` when there is a mask and no mount program.
pub(crate) fn require_reader(mask: Option<u32>, program: Option<&Path>) -> Result<()> {
    if mask.is_none() || program.is_some() {
        return Ok(());
    }
    let detail = "force_mask needs mount_program, such as mount_program=/usr/bin/fuse-overlayfs: the kernel's overlay would show the mask instead of \
                  owners and modes";
    Err(Error::new(ErrorKind::NotSupported, "open").detail(detail))
}

/// What the note on a layer's root means for a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writing {
    /// There is none: files are on disk as they are.
    Plain,
    /// The program is to note owners and modes.
    Noted,
    /// The files that the layer was filled with would get lost to a mount that writes notes.
    Refused,
}

/// How the program can write to a layer.
pub(crate) fn writing(home: &Home, diff: &Path) -> Result<Writing> {
    if home.mount_program.is_none() {
        return Ok(Writing::Plain);
    }
    let dir = open(diff)?;
    if get(&dir, diff, PROGRAM_XATTR)?.is_some() {
        return Ok(Writing::Noted);
    }
    let Some(stat) = get(&dir, diff, XATTR)? else { return Ok(Writing::Plain) };
    let mut entries = fs::read_dir(diff).map_err(|error| Error::io("read directory", diff, error))?;
    if entries.next().is_some() {
        return Ok(Writing::Refused);
    }
    // Without it the program would show the mask for the root.
    let note = format!("{}:{:o}", stat.owner, SFlag::S_IFDIR.bits() | stat.mode);
    set(&dir, diff, PROGRAM_XATTR, &note)?;
    Ok(Writing::Noted)
}

fn recorded(home: &Home, diff: &Path) -> Result<Option<OverrideStat>> {
    if home.mount_program.is_none() {
        return Ok(None);
    }
    let dir = open(diff)?;
    match get(&dir, diff, PROGRAM_XATTR)? {
        Some(stat) => Ok(Some(stat)),
        None => get(&dir, diff, XATTR),
    }
}

fn open(diff: &Path) -> Result<File> {
    File::open(diff).map_err(|error| Error::io("open", diff, error))
}

fn get(dir: &File, diff: &Path, name: &CStr) -> Result<Option<OverrideStat>> {
    let value = match xattr::fget(dir, name) {
        Err(Errno::EOPNOTSUPP) => None,
        value => value.map_err(|errno| Error::syscall("getxattr", diff, errno))?,
    };
    let parsed = value.map(|value| OverrideStat::parse(&value)).transpose();
    parsed.map_err(|error| {
        let detail = format!("the attribute {}", name.to_string_lossy());
        Error::new(ErrorKind::InvalidArgument, "read").path(diff).detail(detail).source(error)
    })
}

fn set(dir: &File, diff: &Path, name: &CStr, value: &str) -> Result<()> {
    xattr::fset(dir, name, value.as_bytes(), SetFlags::empty())
        .map_err(|errno| Error::syscall("setxattr", diff, errno).detail(name.to_string_lossy().into_owned()))
}
