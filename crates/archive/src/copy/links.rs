//! Files with several names.

use std::collections::HashMap;
use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use nix::fcntl::AtFlags;
use nix::sys::stat::FileStat;
use nix::unistd::linkat;
use parking_lot::Mutex;

use super::Step;
use crate::error::Result;
use crate::root::RootDir;
use crate::walk::as_path;

/// Where the copies of files with several names are.
pub(super) struct Links {
    to: RootDir,
    /// By device and inode of the original; paths relative to `to`.
    made: Mutex<HashMap<(u64, u64), Vec<u8>>>,
}

impl Links {
    pub(super) fn new(to: RootDir) -> Self {
        Self { to, made: Mutex::new(HashMap::new()) }
    }

    /// Makes the copy `path` of the file with `create`, or, when another name of it is copied already, links that copy to `name` in `dir`. True when made.
    ///
    /// A copy counts as made when its name is there: another thread may still be filling it.
    pub(super) fn link_or_make(
        &self,
        stat: &FileStat,
        dir: BorrowedFd<'_>,
        name: &CStr,
        path: &[u8],
        create: impl FnOnce() -> Step,
    ) -> Result<Step<bool>> {
        if stat.st_nlink < 2 {
            return Ok(create().map(|()| true));
        }
        let mut made = self.made.lock();
        if let Some(existing) = made.get(&(stat.st_dev, stat.st_ino)) {
            let existing = self.to.locate(as_path(existing))?;
            let linked = linkat(&existing.dir, existing.name.as_os_str(), dir, name, AtFlags::empty());
            return Ok(linked.map(|()| false).map_err(|errno| ("linkat", errno)));
        }
        let step = create();
        if step.is_ok() {
            made.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        Ok(step.map(|()| true))
    }
}
