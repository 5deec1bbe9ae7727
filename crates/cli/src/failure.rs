//! How a command ends when it does not end well, and the exit status for it.

use std::io;

use graphdriver::{Error, ErrorKind};
use nix::sys::signal::Signal;

/// Exit status for wrong usage, as clap uses it too.
const USAGE: u8 = 2;
/// Exit status for a driver or feature that cannot be had here.
const UNSUPPORTED: u8 = 3;

pub(crate) type Result<T = (), E = Failure> = std::result::Result<T, E>;

/// Why a command did not do what it should.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something failed; said on standard error.
    Error(Error),
    /// Nobody reads our output any more; nothing to say about it.
    ClosedPipe,
    /// A signal asked us to stop, and what was begun has been undone.
    Interrupted(Signal),
}

impl Failure {
    /// Writing to standard output failed.
    pub(crate) fn of_output(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ClosedPipe,
            _ => Self::Error(Error::io("write", "standard output", error)),
        }
    }

    /// The exit status: 1 failed, 2 wrong usage, 3 not supported here; 128 and the signal's number as shells have it.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Interrupted(signal) => status_of_signal(*signal as i32),
            Self::Error(error) if error.kind() == ErrorKind::InvalidArgument => USAGE,
            Self::Error(error) if error.kind().is_unsupported() => UNSUPPORTED,
            Self::Error(_) | Self::ClosedPipe => 1,
        }
    }

    /// Says on standard error what happened: one line with the chain of causes, or nothing.
    pub(crate) fn report(&self) {
        match self {
            Self::ClosedPipe => {}
            Self::Interrupted(signal) => eprintln!("graphdriver: stopped by {signal}"),
            Self::Error(error) => eprintln!("graphdriver: {}", one_line(&error.report().to_string())),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// The exit status that shells give to a command which a signal ended.
pub(crate) fn status_of_signal(number: i32) -> u8 {
    u8::try_from(128 + number).unwrap_or(u8::MAX)
}

/// Names in messages are quoted by whoever made the message; what a program or a kernel printed may have several lines.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let joined = lines.collect::<Vec<_>>().join("; ");
    joined.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_follows_kind() {
        let table = [
            (ErrorKind::InvalidArgument, 2),
            (ErrorKind::NotSupported, 3),
            (ErrorKind::Prerequisites, 3),
            (ErrorKind::IncompatibleFs, 3),
            (ErrorKind::LayerUnknown, 1),
            (ErrorKind::InvalidArchive, 1),
            (ErrorKind::Io, 1),
        ];
        for (kind, status) in table {
            assert_eq!(Failure::from(Error::new(kind, "try")).status(), status, "{kind:?}");
        }
        assert_eq!(Failure::Interrupted(Signal::SIGINT).status(), 130);
    }

    #[test]
    fn a_report_is_one_line() {
        assert_eq!(one_line("fsconfig: a\n  b\x1b[31m\n\n"), "fsconfig: a; b [31m");
    }
}
