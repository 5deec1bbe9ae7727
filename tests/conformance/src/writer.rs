//! A process without privileges that writes until it is stopped.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::unistd::fchdir;

use crate::process::THIS_PROGRAM;

/// An ordinary user, whom no file system lets exceed a limit.
const NOBODY: u32 = 65_534;

/// How far a writer got, and what stopped it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub done: u64,
    pub stopped_by: Option<Errno>,
}

impl Progress {
    /// Checks that a limit was in the way.
    #[track_caller]
    pub fn assert_limited(self) {
        assert!(matches!(self.stopped_by, Some(Errno::EDQUOT | Errno::ENOSPC)), "{self:?}");
    }

    /// Checks that nothing was in the way.
    #[track_caller]
    pub fn assert_unlimited(self) {
        assert_eq!(self.stopped_by, None, "{self:?}");
    }
}

/// Appends `bytes` to the file `name` in `dir`, which everybody may write to.
#[track_caller]
pub fn write_to(dir: &Path, name: &str, bytes: u64) -> Progress {
    run(dir, &["--role=write", name, &bytes.to_string()])
}

/// Makes `count` files, `file-0` and so on, in `dir`, which everybody may write to.
#[track_caller]
pub fn make_in(dir: &Path, count: u64) -> Progress {
    run(dir, &["--role=make", &count.to_string()])
}

#[track_caller]
fn run(dir: &Path, words: &[&str]) -> Progress {
    let mut command = Command::new(THIS_PROGRAM);
    // The directory is handed over open: the way to it is closed to this user.
    command.args(words).stdin(File::open(dir).unwrap()).stderr(Stdio::inherit()).uid(NOBODY).gid(NOBODY);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    let (done, errno) = text.trim().split_once(' ').unwrap();
    let errno: i32 = errno.parse().unwrap();
    Progress { done: done.parse().unwrap(), stopped_by: (errno != 0).then(|| Errno::from_raw(errno)) }
}

/// The process of [`write_to`].
pub fn play_write(name: &str, bytes: u64) {
    fchdir(io::stdin()).unwrap();
    report(append(Path::new(name), bytes));
}

/// The process of [`make_in`].
pub fn play_make(count: u64) {
    fchdir(io::stdin()).unwrap();
    let mut done = 0;
    let stopped_by = (0..count).find_map(|number| {
        let made = File::create_new(format!("file-{number}"));
        done += u64::from(made.is_ok());
        made.err().map(|error| errno(&error))
    });
    report(Progress { done, stopped_by });
}

/// Appends `bytes` to the file `path`, as this process.
pub fn append(path: &Path, bytes: u64) -> Progress {
    static CHUNK: [u8; 1 << 16] = [7; 1 << 16];
    let mut done = 0;
    let mut write = || {
        let mut file = File::options().append(true).create(true).open(path)?;
        while done < bytes {
            let length = usize::try_from(bytes - done).unwrap_or(usize::MAX).min(CHUNK.len());
            done += file.write(&CHUNK[..length])? as u64;
        }
        file.sync_all()
    };
    let stopped_by = write().err().map(|error| errno(&error));
    Progress { done, stopped_by }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap())
}

fn report(progress: Progress) {
    println!("{} {}", progress.done, progress.stopped_by.map_or(0, |errno| errno as i32));
}
