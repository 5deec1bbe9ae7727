//! The file `.has-mount-program`: whether layers of a store were written through a mount program, and so may say what they hide in ways that the
//! kernel's overlay does not know.
//!
//! containers/storage writes it and obeys it: `true` means never to mount natively.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use graphdriver_archive::{RootDir, whiteout};
use graphdriver_core::{Error, ErrorKind, Result, TempDirs};
use graphdriver_sys::xattr;
use nix::errno::Errno;

use crate::layout::{LayerDir, Layout};
use crate::stores::{Stores, layers_of};

const MARK: &str = ".has-mount-program";

/// Notes in the home whether a mount program is used.
///
/// Where nothing is noted yet, the layers are looked at, at the topmost level of each only: a store made by containers/storage since 2020 has the note,
/// and to look at every file of every layer would take minutes.
///
/// # Errors
/// `Prerequisites` when there is no mount program and layers were written through one; `Io`.
pub(crate) fn settle(stores: &Stores, temp_dirs: &TempDirs, program: Option<&Path>) -> Result<()> {
    let home = stores.home();
    if program.is_some() {
        return if read(home)? == Some(true) { Ok(()) } else { write(home, temp_dirs, true) };
    }
    for store in stores.all().filter(|store| store.path() != home.path()) {
        if read(store)? == Some(true) {
            return Err(needed(store));
        }
    }
    let used = if let Some(used) = read(home)? {
        used
    } else {
        let used = has_traces(home)?;
        note(home, temp_dirs, used)?;
        used
    };
    if used { Err(needed(home)) } else { Ok(()) }
}

/// What is noted in `store`; nothing where there is no note, or another text.
fn read(store: &Layout) -> Result<Option<bool>> {
    let path = store.path().join(MARK);
    match fs::read(&path) {
        Ok(text) => Ok(match text.trim_ascii() {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path, error)),
    }
}

fn write(store: &Layout, temp_dirs: &TempDirs, used: bool) -> Result<()> {
    let text: &[u8] = if used { b"true" } else { b"false" };
    temp_dirs.write_atomic(&store.path().join(MARK), text, 0o600)
}

/// Spares the next opening the search; a home that cannot be written to does without.
fn note(store: &Layout, temp_dirs: &TempDirs, used: bool) -> Result<()> {
    match write(store, temp_dirs, used) {
        Err(error) if error.errno() == Some(Errno::EROFS) => {
            tracing::debug!(error = %error.report(), "not noted whether a mount program is needed");
            Ok(())
        }
        written => written,
    }
}

fn needed(store: &Layout) -> Error {
    let detail = format!(
        "its layers were written through a mount program ({MARK}), and may show deleted files when the kernel mounts them: \
         give the option mount_program, such as mount_program=/usr/bin/fuse-overlayfs"
    );
    Error::new(ErrorKind::Prerequisites, "open").path(store.path()).detail(detail)
}

/// Whether a layer has at its topmost level what only a mount program leaves.
fn has_traces(store: &Layout) -> Result<bool> {
    for layer in layers_of(store)? {
        if has_trace(&layer)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_trace(layer: &LayerDir) -> Result<bool> {
    let diff = layer.diff();
    let failed = |error| Error::io("read directory", &diff, error);
    let root = RootDir::open(&diff)?;
    if has_attribute(&root, &diff)? {
        return Ok(true);
    }
    for entry in fs::read_dir(&diff).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().as_bytes().starts_with(whiteout::PREFIX) {
            return Ok(true);
        }
        if entry.file_type().map_err(failed)?.is_dir() {
            let dir = root.open_dir(Path::new(&entry.file_name()))?;
            if has_attribute(&dir, &entry.path())? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn has_attribute(dir: impl AsFd, path: &Path) -> Result<bool> {
    match xattr::list_opath(dir) {
        Ok(names) => Ok(names.iter().any(|name| {
            [&b"user.fuseoverlayfs."[..], b"user.containers."]
                .iter()
                .any(|prefix| name.to_bytes().starts_with(prefix))
        })),
        Err(Errno::EOPNOTSUPP) => Ok(false),
        Err(errno) => Err(Error::syscall("listxattr", path, errno)),
    }
}
