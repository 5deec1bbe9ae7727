//! The test programs once more, as a user without any privilege.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::Result;
use crate::command::{cargo, output};

/// Crates whose tests need no other program of the build.
const PACKAGES: [&str; 9] = [
    "graphdriver-archive",
    "graphdriver-aufs",
    "graphdriver-btrfs",
    "graphdriver-conformance",
    "graphdriver-core",
    "graphdriver-overlay",
    "graphdriver-plugin",
    "graphdriver-sys",
    "graphdriver-vfs",
];

/// `nobody` of every Linux: owns nothing, is in no group.
const NOBODY: u32 = 65534;

/// Test programs in a place that every user can reach, which the build's own directory need not be.
pub(crate) struct Programs {
    directory: tempfile::TempDir,
    names: Vec<PathBuf>,
}

impl Programs {
    /// Builds the test programs and copies them.
    ///
    /// # Errors
    /// When the build fails, or there is no room.
    pub(crate) fn build() -> Result<Self> {
        let mut build = cargo();
        build.args(["test", "--no-run", "--quiet", "--all-features", "--message-format=json"]);
        build.args(PACKAGES.iter().flat_map(|package| ["--package", package]));
        let messages = String::from_utf8(output(&mut build)?.stdout)?;
        let directory = tempfile::Builder::new().prefix("graphdriver-test-").tempdir()?;
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
        let mut names = Vec::new();
        for program in messages.lines().filter_map(test_program) {
            let name = directory.path().join(program.file_name().unwrap_or_default());
            fs::copy(&program, &name)?;
            fs::set_permissions(&name, Permissions::from_mode(0o755))?;
            names.push(name);
        }
        Ok(Self { directory, names })
    }

    /// One command for each program, which runs it as `nobody`.
    pub(crate) fn commands(&self) -> impl Iterator<Item = Command> {
        self.names.iter().map(|name| {
            let mut command = Command::new(name);
            // The kernel empties the list of groups too.
            command.uid(NOBODY).gid(NOBODY).env("HOME", "/nonexistent").current_dir(self.directory.path());
            command
        })
    }
}

/// The path in cargo's message about a test program that it built.
pub(crate) fn test_program(message: &str) -> Option<PathBuf> {
    program(message, true)
}

/// The path in cargo's message about a program that it built for tests to start.
pub(crate) fn other_program(message: &str) -> Option<PathBuf> {
    program(message, false)
}

fn program(message: &str, of_tests: bool) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let is_test = message["profile"]["test"].as_bool()?;
    message["executable"].as_str().filter(|_| is_test == of_tests).map(PathBuf::from)
}
