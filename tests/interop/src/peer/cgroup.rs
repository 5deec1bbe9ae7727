//! A cgroup for the containers of one peer, so that nothing of them stays.

use std::fs;
use std::io;
use std::path::Path;

/// The name of a cgroup that others make in every hierarchy; dropped, it is removed.
pub(crate) struct Cgroup {
    name: String,
}

impl Cgroup {
    /// One for the peer whose directory is `dir`.
    pub(crate) fn of(dir: &Path) -> Self {
        Self { name: dir.to_string_lossy().trim_start_matches('/').replace('/', "-") }
    }

    /// As an absolute path below the root of a hierarchy.
    pub(crate) fn path(&self) -> String {
        format!("/{}", self.name)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // One hierarchy for each controller in version 1; in version 2 the one that all share.
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
        for path in hierarchies.chain([root.to_owned()]).map(|hierarchy| hierarchy.join(&self.name)) {
            if path.is_dir()
                && let Err(error) = remove(&path)
            {
                eprintln!("{}: {error}", path.display());
            }
        }
    }
}

/// Removes a cgroup and those in it, which must have no processes. What looks like files in it are none that can be removed.
fn remove(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}
