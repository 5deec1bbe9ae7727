//! Unmounting: AUFS keeps names of hard links in memory, which have to be written down first.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use graphdriver_core::{Error, FsMagic, Result, fs_magic};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

/// The program of aufs-tools.
const AUPLINK: &str = "auplink";

/// The status with which it says that somebody changes the branches at the moment.
const AUPLINK_BUSY: i32 = 22;

/// How often something is tried again, and after how long.
const RETRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);

/// Unmounts what is mounted at `target`, once nobody uses it any more. Nothing being mounted is fine.
///
/// # Errors
/// `Io` with `EBUSY` when somebody still does after half a second.
#[doc(alias = "Unmount")]
pub(crate) fn unmount(target: &Path) -> Result<()> {
    if fs_magic(target).is_ok_and(|magic| magic == FsMagic::AUFS) {
        flush_links(target);
    }
    for _ in 0..RETRIES {
        match umount2(target, MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(Errno::EBUSY) => sleep(PAUSE),
            Err(errno) => return Err(Error::syscall("umount2", target, errno)),
        }
    }
    let busy = Error::syscall("umount2", target, Errno::EBUSY);
    Err(busy.detail(format!("something in it is still in use after {RETRIES} tries")))
}

/// Without the program, hard links that were made across branches may come apart, which the Go drivers accept too.
fn flush_links(target: &Path) {
    for _ in 0..RETRIES {
        let run = Command::new(AUPLINK).arg(target).arg("flush").stdin(Stdio::null()).output();
        match run {
            Ok(output) if output.status.code() == Some(AUPLINK_BUSY) => sleep(PAUSE),
            Ok(output) if output.status.success() => return,
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                tracing::warn!(?target, status = %output.status, %said, "auplink could not write down hard links");
                return;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tracing::debug!(?target, "there is no auplink to write down hard links");
                return;
            }
            Err(error) => {
                tracing::warn!(?target, %error, "auplink could not be run");
                return;
            }
        }
    }
    tracing::warn!(?target, "auplink found the branches busy");
}
