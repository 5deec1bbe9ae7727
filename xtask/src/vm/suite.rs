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

/// Test programs of one crate without what a debugger wants of them.
#[derive(Debug)]
pub(super) struct Suite {
    programs: Vec<PathBuf>,
    arguments: Vec<String>,
}

impl Suite {
    /// Builds the programs and puts them into `directory`.
    pub(super) fn build(wanted: &Wanted, directory: &Path) -> Result<Self> {
        let mut build = cargo();
        build.args(["test", "--no-run", "--quiet", "--all-features", "--message-format=json"]);
        build.args(["--package", &wanted.package]);
        let messages = String::from_utf8(output(&mut build)?.stdout)?;
        let mut programs = Vec::new();
        for program in messages.lines().filter_map(test_program) {
            let stripped = directory.join(program.file_name().unwrap_or_default());
            check(Command::new("strip").arg("-o").arg(&stripped).arg(&program))?;
            programs.push(stripped);
        }
        let is_conformance = wanted.package == CONFORMANCE;
        let all = if is_conformance { "--strict" } else { "--include-ignored" };
        let arguments = [all.to_owned()].into_iter().chain(wanted.arguments.iter().cloned()).collect();
        Ok(Self { programs, arguments })
    }

    pub(super) fn programs(&self) -> &[PathBuf] {
        &self.programs
    }

    pub(super) fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// The names of the cases that a program has for these arguments, which is the same on every machine.
    pub(super) fn names(&self, program: &Path) -> Result<Vec<String>> {
        let listed = output(Command::new(program).arg("--list").args(&self.arguments))?;
        let listed = String::from_utf8(listed.stdout)?;
        Ok(listed.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
    }
}
