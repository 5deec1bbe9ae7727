//! The test programs: built here, run elsewhere.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::command::{cargo, check, output};
use crate::ordinary_user::test_program;

/// The suite that every driver runs.
pub(super) const CONFORMANCE: &str = "graphdriver-conformance";

/// Which tests are wanted.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The crate whose tests they are.
    pub(super) package: String,
    /// Options of the conformance suite, and parts of names.
    pub(super) arguments: Vec<String>,
}

impl Wanted {
    /// The command line of each of the programs: every case that fits, and none may be left out for want of something.
    pub(super) fn command_line(&self) -> Vec<String> {
        let all = if self.package == CONFORMANCE { "--strict" } else { "--include-ignored" };
        [all.to_owned()].into_iter().chain(self.arguments.iter().cloned()).collect()
    }
}

/// Test programs of one crate without what a debugger wants of them.
#[derive(Debug)]
pub(super) struct Suite {
    programs: Vec<PathBuf>,
}

impl Suite {
    /// Builds the programs of a crate and puts them into `directory`.
    pub(super) fn build(package: &str, directory: &Path) -> Result<Self> {
        let mut build = cargo();
        build.args(["test", "--no-run", "--quiet", "--all-features", "--message-format=json"]);
        build.args(["--package", package]);
        let messages = String::from_utf8(output(&mut build)?.stdout)?;
        let mut programs = Vec::new();
        for program in messages.lines().filter_map(test_program) {
            let stripped = directory.join(program.file_name().unwrap_or_default());
            check(Command::new("strip").arg("-o").arg(&stripped).arg(&program))?;
            programs.push(stripped);
        }
        Ok(Self { programs })
    }

    pub(super) fn programs(&self) -> &[PathBuf] {
        &self.programs
    }

    /// The names of the cases that each program has for these arguments, which is the same on every machine.
    pub(super) fn names(&self, arguments: &[String]) -> Result<Vec<Vec<String>>> {
        self.programs.iter().map(|program| names(program, arguments)).collect()
    }
}

fn names(program: &Path, arguments: &[String]) -> Result<Vec<String>> {
    let listed = output(Command::new(program).arg("--list").args(arguments))?;
    let listed = String::from_utf8(listed.stdout)?;
    Ok(listed.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}
