//! Mounting with a program instead of the kernel's overlay: fuse-overlayfs.
//!
//! For who may not mount overlay, such as an ordinary user before Linux 5.11, and for file systems that overlay cannot have below.
//! The program is started with an argument vector, its words on standard error are part of the failure, and what it mounts is unmounted by
//! the kernel, or by `fusermount3(1)` where that needs its privilege.

mod arguments;
mod mark;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use graphdriver_core::{Error, ErrorKind, IdMaps, Result};
use graphdriver_sys::mount_point::is_mount_point;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;
use nix::unistd::syncfs;

use crate::mount::{self, Attributes, Upper};

pub(crate) use mark::settle;

/// Most of what a program says that goes into an error, in bytes.
const MAX_WORDS: usize = 2048;

/// A program that mounts overlays, with the interface of fuse-overlayfs.
#[derive(Clone, Debug)]
pub(crate) struct MountProgram {
    program: PathBuf,
    /// The store; directories below it are named relative to it, so that its own path may be any.
    home: PathBuf,
}

/// A mount for a program to make.
#[derive(Clone, Debug)]
pub(crate) struct ProgramMount<'a> {
    /// The directories below, uppermost first; at least one.
    pub(crate) lowers: &'a [&'a Path],
    /// Where what is written goes.
    pub(crate) upper: Option<Upper<'a>>,
    /// Owners and modes of what is written are kept in an attribute.
    pub(crate) notes: bool,
    /// The directory to mount on; absolute.
    pub(crate) target: &'a Path,
    /// Show the owners on disk, container ids, as these maps' host ids.
    pub(crate) id_maps: &'a IdMaps,
    /// SELinux label for all files.
    pub(crate) label: Option<&'a str>,
    /// Read-only and the like.
    pub(crate) attributes: Attributes,
}

impl MountProgram {
    pub(crate) fn new(program: PathBuf, home: PathBuf) -> Self {
        Self { program, home }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.program
    }

    /// Runs the program, which leaves a process behind that serves the mount.
    ///
    /// # Errors
    /// `InvalidArgument` for a directory with a colon in its path; `Command` when the program fails, with what it said.
    pub(crate) fn mount(&self, mount: &ProgramMount<'_>) -> Result<()> {
        let options = arguments::options(&self.home, mount)?;
        let mut command = Command::new(&self.program);
        command.current_dir(&self.home).arg("-o").arg(options).arg(mount.target);
        let output = self.run(command, "mount")?;
        if !output.status.success() {
            return Err(self.failed("mount", &output).path(mount.target));
        }
        match is_mount_point(AT_FDCWD, mount.target) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let error = self.error("mount").path(mount.target);
                Err(error.detail(format!("{} mounted nothing", self.program.display())))
            }
            Err(error) => Err(Error::io("statx", mount.target, error)),
        }
    }

    /// Unmounts what is mounted at `target`, at once, or when its last file is closed. Nothing being mounted is fine.
    ///
    /// # Errors
    /// `PermissionDenied`, `Command` when neither the kernel nor `fusermount3` unmounts it; `Io`.
    pub(crate) fn unmount(target: &Path) -> Result<()> {
        match umount2(target, MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(Errno::EPERM) => return unmount_unprivileged(target),
            Err(_) => {}
        }
        // Files in it are open: they stay usable, and what was written so far is on its way before the layer is read elsewhere.
        flush(target);
        mount::detach(target)
    }

    fn run(&self, mut command: Command, operation: &'static str) -> Result<Output> {
        let output = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output();
        output.map_err(|error| self.error(operation).source(Error::io("start", &self.program, error)))
    }

    fn error(&self, operation: &'static str) -> Error {
        Error::new(ErrorKind::Command, operation).detail(self.program.display().to_string())
    }

    fn failed(&self, operation: &'static str, output: &Output) -> Error {
        let words = words(&output.stderr);
        let words = if words.is_empty() { "it said nothing".to_owned() } else { words };
        let detail = format!("{}, {}: {words}", self.program.display(), output.status);
        Error::new(ErrorKind::Command, operation).detail(detail)
    }
}

/// The end of what was said, on one line.
fn words(stderr: &[u8]) -> String {
    let start = stderr.len().saturating_sub(MAX_WORDS);
    let text = String::from_utf8_lossy(&stderr[start..]);
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

/// Who may mount only through the set-user-id program of libfuse unmounts through it too.
fn unmount_unprivileged(target: &Path) -> Result<()> {
    let mut failure = None;
    for program in ["fusermount3", "fusermount"] {
        let unmounting = MountProgram::new(program.into(), PathBuf::new());
        let mut command = Command::new(program);
        command.arg("-u").arg("--").arg(target);
        match unmounting.run(command, "unmount") {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => failure = Some(unmounting.failed("unmount", &output)),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    flush(target);
    mount::detach(target).map_err(|error| match failure {
        Some(failure) => failure.path(target),
        None => error,
    })
}

fn flush(target: &Path) {
    let opened = open(target, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
    if let Err(errno) = opened.and_then(syncfs) {
        tracing::debug!(?target, %errno, "a mount is not flushed before it is unmounted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_end_of_what_was_said_on_one_line() {
        let long = format!("{}\nlast", "x".repeat(3 * MAX_WORDS));
        assert_eq!(words(b""), "");
        assert_eq!(words(b"one\n\n two \n"), "one; two");
        let found = words(long.as_bytes());
        assert!(found.len() <= MAX_WORDS + 2 && found.ends_with("x; last"), "{}", found.len());
    }
}
