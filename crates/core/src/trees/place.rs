//! Directories whose entries are layers.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat, renameat2};

use crate::error::{Error, Result};
use crate::layer_id::LayerId;

/// The entries of a directory that could be layers, and what they are; in no order.
///
/// # Errors
/// `PermissionDenied`, `Io`.
pub fn list_ids(dir: &Path) -> Result<Vec<(LayerId, fs::FileType)>> {
    let failed = |error| Error::io("read directory", dir, error);
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            match entry.file_type() {
                // Some file systems have to be asked, and it may be gone by now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                file_type => found.push((id, file_type.map_err(failed)?)),
            }
        }
    }
    Ok(found)
}

/// Makes a directory and those above it, as far as they are missing.
///
/// # Errors
/// `NoSpace`, `PermissionDenied`, `Io`.
pub fn make_dirs(path: &Path, mode: u32) -> Result<()> {
    let result = DirBuilder::new().recursive(true).mode(mode).create(path);
    result.map_err(|error| Error::io("mkdir", path, error))
}

/// Nothing, where the failure is that the file system is read-only: what is there can be read all the same.
///
/// # Errors
/// Any other `error`.
pub fn unless_read_only<T: Default>(error: Error) -> Result<T> {
    if error.errno() == Some(Errno::EROFS) { Ok(T::default()) } else { Err(error) }
}

/// Gives the layer that is filled at `from` its place `to`, where nothing may be.
///
/// # Errors
/// `LayerExists` where something is; `Io`.
pub fn rename_new(from: &Path, to: &Path, id: &LayerId) -> Result<()> {
    match rename(from, to) {
        Ok(()) => Ok(()),
        Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR) => Err(Error::layer_exists("create", id)),
        Err(errno) => Err(Error::syscall("rename", to, errno)),
    }
}

fn rename(from: &Path, to: &Path) -> nix::Result<()> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        // Some file systems lack the flag; the home's lock keeps others of us off, and a directory replaces none but empty ones.
        Err(Errno::EINVAL | Errno::ENOSYS) => renameat(AT_FDCWD, from, AT_FDCWD, to),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_directory_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| dir.path().join(name));
        let id: LayerId = "to".parse().unwrap();
        fs::create_dir(&from).unwrap();
        fs::create_dir(&to).unwrap();
        assert_eq!(rename_new(&from, &to, &id).unwrap_err().kind(), ErrorKind::LayerExists);
        fs::remove_dir(&to).unwrap();
        rename_new(&from, &to, &id).unwrap();
        assert_eq!(fs::metadata(&from).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    }

    #[test]
    fn other_names_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        make_dirs(&dir.path().join("layer"), 0o700).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        fs::write(dir.path().join("a\nb"), "").unwrap();
        let mut found: Vec<_> = list_ids(dir.path())
            .unwrap()
            .into_iter()
            .map(|(id, file_type)| (id.to_string(), file_type.is_dir()))
            .collect();
        found.sort_unstable();
        assert!(found.starts_with(&[("file".to_owned(), false), ("layer".to_owned(), true)]), "{found:?}");
    }
}
