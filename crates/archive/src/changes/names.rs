//! Finding a file's names.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use nix::sys::stat::fstat;

use crate::error::{Error, Result};
use crate::root::RootDir;
use crate::walk::{as_path, visit_tree_shared};

/// All paths, from the root, of the files with these inode numbers on the file system of `root`; directories have one at most. For [`changes_among`](super::changes_among) on file systems that do not tell
/// where a file is: looks at every file of the tree, by several threads at once.
///
/// # Errors
/// The kind of the failed system call, with the path inside the tree.
pub fn names_of(root: &RootDir, inodes: &BTreeSet<u64>) -> Result<Vec<PathBuf>> {
    if inodes.is_empty() {
        return Ok(Vec::new());
    }
    let device = fstat(root).map_err(|errno| Error::syscall("fstat", root.path(), errno))?.st_dev;
    let found = Mutex::new(Vec::new());
    visit_tree_shared(root, |visited| {
        if visited.stat.st_dev == device && inodes.contains(&visited.stat.st_ino) {
            found.lock().unwrap_or_else(PoisonError::into_inner).push(as_path(&visited.path).to_owned());
        }
        Ok(())
    })?;
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_unstable();
    Ok(found)
}
