//! The test programs: built here, run elsewhere.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::command::{cargo, check, output};
use crate::ordinary_user::{other_program, test_program};

/// The suite that every driver runs.
pub(super) const CONFORMANCE: &str = "graphdriver-conformance";

/// Which tests are wanted.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The crates whose tests they are.
    pub(super) packages: Vec<String>,
    /// Options of the conformance suite, and parts of names.
    pub(super) arguments: Vec<String>,
    /// Parts of names of tests that are left out.
    pub(super) without: Vec<String>,
}

impl Wanted {
    /// The command line of each of the programs: every case that fits, and none may be left out for want of something.
    pub(super) fn command_line(&self) -> Vec<String> {
        let all = if self.packages == [CONFORMANCE] { "--strict" } else { "--include-ignored" };
        let left_out = self.without.iter().flat_map(|name| ["--skip", name]);
        let words = [all].into_iter().chain(left_out).chain(self.arguments.iter().map(String::as_str));
        words.map(str::to_owned).collect()
    }
}

/// Test programs without what a debugger wants of them.
#[derive(Debug)]
pub(super) struct Suite {
    programs: Vec<PathBuf>,
    companions: Vec<PathBuf>,
}

impl Suite {
    /// Builds the programs of crates and puts them into `directory`.
    pub(super) fn build(packages: &[String], directory: &Path) -> Result<Self> {
        let mut build = cargo();
        build.args([
            "test",
            "--no-run",
            "--quiet",
            "--profile=guest",
            "--all-features",
            "--message-format=json",
        ]);
        build.args(packages.iter().flat_map(|package| ["--package", package]));
        let messages = String::from_utf8(output(&mut build)?.stdout)?;
        let mut programs = Vec::new();
        for program in messages.lines().filter_map(test_program) {
            let stripped = directory.join(program.file_name().unwrap_or_default());
            check(Command::new("strip").arg("-o").arg(&stripped).arg(&program))?;
            programs.push(stripped);
        }
        let companions = messages.lines().filter_map(other_program).collect();
        Ok(Self { programs, companions })
    }

    pub(super) fn programs(&self) -> &[PathBuf] {
        &self.programs
    }

    /// Programs that tests start, by the paths by which they know them.
    pub(super) fn companions(&self) -> &[PathBuf] {
        &self.companions
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
