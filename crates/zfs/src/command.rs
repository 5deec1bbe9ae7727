//! Running `zfs` and `zpool`: the one place where this crate starts processes.
//!
//! The programs are the interface of ZFS that stays the same from version to version (`-H -p`: no headings, tabs, exact numbers). They get no shell, no standard input, and names that
//! were checked; what they answer is read as bytes.

use std::env;
use std::error::Error as StdError;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use graphdriver_core::{Error, ErrorKind, Result};

/// Where the programs are beside `PATH`, which of an engine need not name the directories of the system's programs.
const ELSEWHERE: [&str; 4] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin"];

/// How long a dataset that is busy is waited for, in all: ten times, from 10 ms on.
const PATIENCE: u32 = 10;
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The two programs.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    zfs: PathBuf,
    zpool: PathBuf,
}

impl Programs {
    /// Those in `PATH`, or where distributions put them.
    ///
    /// # Errors
    /// `Prerequisites` when one is missing.
    pub(crate) fn find() -> Result<Self> {
        Ok(Self { zfs: find("zfs")?, zpool: find("zpool")? })
    }

    /// Runs `zfs` with these arguments; returns what it printed.
    pub(crate) fn zfs(&self, arguments: &[&str]) -> Result<Vec<u8>, Failure> {
        run(&self.zfs, arguments)
    }

    /// Runs `zpool` with these arguments; returns what it printed.
    pub(crate) fn zpool(&self, arguments: &[&str]) -> Result<Vec<u8>, Failure> {
        run(&self.zpool, arguments)
    }

    /// Runs `zfs` again while it says that the dataset is busy: mounts that were taken out of sight, and programs that look at every new mount, let go of it a moment later.
    pub(crate) fn zfs_patiently(&self, arguments: &[&str]) -> Result<Vec<u8>, Failure> {
        let mut pause = FIRST_PAUSE;
        for _ in 0..PATIENCE {
            match self.zfs(arguments) {
                Err(failure) if failure.reason == Reason::Busy => thread::sleep(pause),
                result => return result,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.zfs(arguments)
    }
}

fn find(name: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain(ELSEWHERE.into_iter().map(PathBuf::from));
    directories.map(|directory| directory.join(name)).find(|file| file.is_file()).ok_or_else(|| {
        Error::new(ErrorKind::Prerequisites, "find program")
            .detail(format!("the '{name}' command is not available: install the programs of ZFS (zfsutils)"))
    })
}

fn run(program: &Path, arguments: &[&str]) -> Result<Vec<u8>, Failure> {
    let mut command = Command::new(program);
    // In the language whose messages are known.
    command.args(arguments).env("LC_ALL", "C").stdin(Stdio::null());
    tracing::debug!(?program, ?arguments, "run");
    let failed =
        |status, reason, message| Failure { command: line(program, arguments), status, reason, message };
    match command.output() {
        Err(error) => Err(failed(End::NotStarted(error), Reason::Other, String::new())),
        Ok(output) if output.status.success() => Ok(output.stdout),
        Ok(output) => {
            let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(failed(End::Exited(output.status), Reason::of(&message), message))
        }
    }
}

/// The command as one would type it, for messages.
fn line(program: &Path, arguments: &[&str]) -> String {
    let name = program.file_name().unwrap_or(OsStr::from_bytes(b"zfs")).to_string_lossy();
    let mut line = name.into_owned();
    for argument in arguments {
        line.push(' ');
        line.push_str(argument);
    }
    line
}

/// What a failure comes from, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// There is no such file system or snapshot; a volume may have its name.
    Missing,
    /// There is one of this name already.
    Exists,
    Busy,
    /// Something was cloned from it.
    HasClones,
    NoSpace,
    Denied,
    ReadOnly,
    /// The name, or the value of a property, is not one.
    Invalid,
    Other,
}

/// Parts of messages of ZFS 0.8 to 2.3 and what they stand for, the first that is found.
const MESSAGES: [(&str, Reason); 16] = [
    ("dataset does not exist", Reason::Missing),
    ("could not find any snapshots to destroy", Reason::Missing),
    ("no such pool", Reason::Missing),
    ("not applicable to datasets of this type", Reason::Missing),
    ("parent does not exist", Reason::Missing),
    ("dataset already exists", Reason::Exists),
    ("has dependent clones", Reason::HasClones),
    ("has children", Reason::HasClones),
    ("is busy", Reason::Busy),
    ("out of space", Reason::NoSpace),
    ("no space left", Reason::NoSpace),
    ("quota exceeded", Reason::NoSpace),
    ("permission denied", Reason::Denied),
    ("read-only", Reason::ReadOnly),
    ("invalid character", Reason::Invalid),
    ("too long", Reason::Invalid),
];

impl Reason {
    fn of(message: &str) -> Self {
        let message = message.to_lowercase();
        MESSAGES.iter().find(|(part, _)| message.contains(part)).map_or(Self::Other, |(_, reason)| *reason)
    }

    fn kind(self) -> ErrorKind {
        match self {
            Self::NoSpace => ErrorKind::NoSpace,
            Self::Denied | Self::ReadOnly => ErrorKind::PermissionDenied,
            Self::Invalid => ErrorKind::InvalidArgument,
            Self::Busy | Self::HasClones => ErrorKind::LayerInUse,
            Self::Missing | Self::Exists | Self::Other => ErrorKind::Command,
        }
    }
}

/// A program that failed: its command line, how it ended and what it said.
#[derive(Debug)]
pub(crate) struct Failure {
    command: String,
    status: End,
    pub(crate) reason: Reason,
    message: String,
}

#[derive(Debug)]
enum End {
    NotStarted(io::Error),
    Exited(ExitStatus),
}

impl Failure {
    /// The failure of `operation`, with the kind that the program's message tells.
    pub(crate) fn during(self, operation: &'static str) -> Error {
        Error::new(self.reason.kind(), operation).source(self)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, status, message, .. } = self;
        match status {
            End::NotStarted(error) => write!(f, "`{command}`: {error}"),
            End::Exited(status) => write!(f, "`{command}`: {status}: {message}"),
        }
    }
}

impl StdError for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_reasons() {
        for (message, reason) in [
            ("cannot open 'tank/x': dataset does not exist", Reason::Missing),
            ("cannot open 'tank/x': operation not applicable to datasets of this type", Reason::Missing),
            ("cannot create 'tank/x': dataset already exists", Reason::Exists),
            ("cannot rename to 'tank/x': dataset already exists", Reason::Exists),
            ("cannot destroy 'tank/x': dataset is busy", Reason::Busy),
            ("cannot unmount '/x': pool or dataset is busy", Reason::Busy),
            ("cannot destroy 'tank/x': filesystem has dependent clones", Reason::HasClones),
            ("cannot create 'tank/x': out of space", Reason::NoSpace),
            ("cannot create snapshot 'tank/x@s': permission denied", Reason::Denied),
            ("Permission denied the ZFS utilities must be run as root.", Reason::Denied),
            ("cannot create 'tank/a@b': invalid character '@' in name", Reason::Invalid),
            ("internal error: out of luck", Reason::Other),
        ] {
            assert_eq!(Reason::of(message), reason, "{message}");
        }
    }

    #[test]
    fn a_failure_names_command_status_and_message() {
        let failure = run(Path::new("/bin/sh"), &["-c", "echo 'dataset is busy' >&2; exit 3"]).unwrap_err();
        assert_eq!(failure.reason, Reason::Busy);
        let error = failure.during("destroy dataset");
        assert_eq!(error.kind(), ErrorKind::LayerInUse);
        let report = error.report().to_string();
        assert!(report.starts_with("destroy dataset: `sh -c echo"), "{report}");
        assert!(report.ends_with("exit status: 3: dataset is busy"), "{report}");
        let failure = run(Path::new("/nonexistent/zfs"), &["list"]).unwrap_err();
        assert_eq!(failure.to_string(), "`zfs list`: No such file or directory (os error 2)");
    }
}
