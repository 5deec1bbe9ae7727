//! One user namespace for all processes of an ordinary user while `graphdriver unshare` runs, so that all of them see what is mounted there and none
//! removes what another uses.

use std::env;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process;

use graphdriver_sys::ofd_lock::{LockKind, lock, try_lock};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sched::{CloneFlags, setns};
use nix::unistd::chdir;

/// The file below the run root that has the numbers of the processes to join, each on a line. They and all that they start keep a lock on it.
const FILE: &str = "namespace";

/// Makes the namespaces of this process those that others join, until it and all that it starts have ended.
///
/// # Errors
/// When the run root cannot be written to.
pub(crate) fn offer(run_root: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(run_root)?;
    let path = run_root.join(FILE);
    let mut file = File::options().read(true).append(true).create(true).mode(0o600).open(path)?;
    if try_lock(&file, 0, 0, LockKind::Exclusive)? {
        // All who are in it have ended.
        file.set_len(0)?;
    }
    lock(&file, 0, 0, LockKind::Shared)?;
    file.write_all(format!("{}\n", process::id()).as_bytes())?;
    // What this process becomes and starts keeps the file open, and with it the lock.
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty()))?;
    std::mem::forget(file);
    Ok(())
}

/// Moves this process into the namespaces that others offer; `false` when nobody does. There must be one thread only.
///
/// # Errors
/// When the run root cannot be read.
pub(crate) fn join(run_root: &Path) -> io::Result<bool> {
    let path = run_root.join(FILE);
    let file = match File::options().read(true).write(true).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    if try_lock(&file, 0, 0, LockKind::Exclusive)? {
        return Ok(false);
    }
    let processes = fs::read_to_string(path)?;
    Ok(processes.lines().filter_map(|line| line.parse().ok()).any(|process: u32| enter(process).is_ok()))
}

/// Moves into the user and mount namespace of `process`; relative paths mean the same afterwards.
fn enter(process: u32) -> io::Result<()> {
    let namespace = |kind| File::open(format!("/proc/{process}/ns/{kind}"));
    let (user, mount) = (namespace("user")?, namespace("mnt")?);
    let directory = env::current_dir()?;
    setns(user.as_fd(), CloneFlags::CLONE_NEWUSER)?;
    setns(mount.as_fd(), CloneFlags::CLONE_NEWNS)?;
    // The kernel has moved us to the root directory.
    Ok(chdir(&directory)?)
}
