//! What a driver without layers leaves in its home.

use std::fs;
use std::io;
use std::path::Path;

/// Files that say nothing of layers: our lock, and what overlay noted of its mounts and of the disk.
const OF_DRIVERS: [&str; 3] = [".graphdriver.lock", ".has-mount-program", "backingFsBlockDev"];

/// Removes the home of a driver that has no layers any more, as far as it holds nothing but empty directories and drivers' own files, so that it does not count as a driver's that was chosen. Tells whether it is gone.
///
/// # Errors
/// The first directory that cannot be looked at or removed; one that holds something is none.
pub(crate) fn remove_empty_home(home: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(home) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_dir(&entry.path())?;
        } else if OF_DRIVERS.iter().any(|name| entry.file_name() == *name) {
            fs::remove_file(entry.path())?;
        }
    }
    remove_dir(home)
}

fn remove_dir(path: &Path) -> io::Result<bool> {
    match fs::remove_dir(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty) => Ok(false),
        result => result.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_empty_goes() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        for path in ["dir", "tempdirs", "other/kept"] {
            fs::create_dir_all(home.join(path)).unwrap();
        }
        for name in OF_DRIVERS {
            fs::write(home.join(name), "").unwrap();
        }
        assert!(!remove_empty_home(&home).unwrap());
        let left: Vec<_> = fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["other"]);
        fs::remove_dir(home.join("other/kept")).unwrap();
        assert!(remove_empty_home(&home).unwrap());
        assert!(!home.exists());
        assert!(remove_empty_home(&home).unwrap());
    }
}
