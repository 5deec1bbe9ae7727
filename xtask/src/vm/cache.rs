//! What is fetched or built once, and kept below `target/vm` by version.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use crate::Result;
use crate::command::target_dir;

/// A directory of the cache, made if need be.
pub(super) fn directory(name: &str) -> Result<PathBuf> {
    let directory = std::path::absolute(target_dir())?.join("vm").join(name);
    fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    Ok(directory)
}

/// Waits until nobody else works on `name` in the directory `kind`, and keeps all others waiting until the guard is dropped.
pub(super) fn lock(kind: &str, name: &str) -> Result<Flock<File>> {
    let file = directory(kind)?.join(format!(".lock-{name}"));
    let open = File::create(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    Flock::lock(open, FlockArg::LockExclusive)
        .map_err(|(_, error)| format!("{}: flock: {error}", file.display()).into())
}

/// The entry `name` in the directory `kind`, which `make` makes at the path that it is given if it is not there yet. It appears whole or not at all.
pub(super) fn entry(kind: &str, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let _made_once = lock(kind, name)?;
    let kind = directory(kind)?;
    let entry = kind.join(name);
    if !entry.exists() {
        let aside = tempfile::Builder::new().prefix(".new-").tempdir_in(&kind)?;
        let whole = aside.path().join("whole");
        make(&whole)?;
        fs::rename(&whole, &entry).map_err(|error| format!("{}: {error}", entry.display()))?;
    }
    Ok(entry)
}

/// The entry of `kind` that was chosen under `name` before, or else the one that `choose` names. With `again` it is chosen anew.
///
/// Asking apt takes seconds, and what it answers changes from day to day: a choice stays until something else is wished for.
pub(super) fn choice(
    kind: &str,
    name: &str,
    again: bool,
    choose: impl FnOnce() -> Result<PathBuf>,
) -> Result<PathBuf> {
    let _chosen_once = lock(kind, name)?;
    let kind = directory(kind)?;
    let pointer = kind.join(name);
    if !again
        && let Ok(target) = fs::read_link(&pointer)
        && kind.join(&target).exists()
    {
        return Ok(kind.join(target));
    }
    let chosen = choose()?;
    let target = chosen.file_name().unwrap_or_default();
    match fs::remove_file(&pointer) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => symlink(target, &pointer),
    }
    .map_err(|error| format!("{}: {error}", pointer.display()))?;
    Ok(chosen)
}

/// A short name for what is told apart by all of `parts`.
pub(super) fn digest<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
        hasher.update([0]);
    }
    hex::encode(&hasher.finalize()[..6])
}
