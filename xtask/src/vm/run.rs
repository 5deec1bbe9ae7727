//! One run: what is put into a guest, and what comes out of it.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::guest::{Guest, Heard, Machine};
use super::initramfs::Initramfs;
use super::kernel::Kernel;
use super::matrix::Run;
use super::suite::Suite;
use super::transcript::{Case, Transcript};
use super::userland::Userland;
use super::{Limits, cache, host, modules, verdict};
use crate::Result;

/// The first process of a guest.
const INIT: &str = include_str!("init.sh");

/// What all runs have in common.
pub(super) struct Laboratory {
    userland: Userland,
}

impl Laboratory {
    pub(super) fn new(refresh: bool) -> Result<Self> {
        Ok(Self { userland: Userland::find(refresh)? })
    }

    /// Runs a suite in a guest and returns every case with what became of it.
    pub(super) fn run(&self, run: &Run, kernel: &Kernel, limits: &Limits) -> Result<Vec<Case>> {
        let directory = tempfile::tempdir_in(cache::directory("")?)?;
        let suite = Suite::build(&run.wanted, directory.path())?;
        let names =
            suite.programs().iter().map(|program| suite.names(program)).collect::<Result<Vec<_>>>()?;
        if names.iter().all(Vec::is_empty) {
            return Err(format!("{}: there is no such case", run.name()).into());
        }
        let initrd = directory.path().join("initrd");
        fs::copy(self.base(kernel, directory.path())?, &initrd)?;
        self.add_run(&initrd, run, &suite)?;
        let logs = cache::directory("logs")?;
        let machine = Machine { kernel: &kernel.image, initrd: &initrd, kvm: limits.kvm, logs: &logs };
        let mut guest = machine.boot(&self.userland)?;
        let (transcript, ending) = follow(&mut guest, limits)?;
        if !transcript.is_done() {
            println!("\n{ending}; its last words:\n{}", guest.last_words());
        }
        let exits = transcript.exits().to_vec();
        let cases = transcript.into_cases(&ending, Instant::now());
        Ok(verdict::judge(cases, &names, &exits, |reason| kernel.excuses(reason), &ending))
    }

    /// An archive with all that does not change from run to run, kept by the versions of what is in it.
    fn base(&self, kernel: &Kernel, aside: &Path) -> Result<PathBuf> {
        let make = |file: &Path| {
            let mut archive = Initramfs::new(File::create(file)?);
            self.add_base(&mut archive)?;
            modules::add(&mut archive, kernel, &self.userland)?;
            archive.finish()
        };
        if let Some(version) = &kernel.version {
            return cache::entry("initramfs", &format!("{version}-{}", self.userland.version()), make);
        }
        let file = aside.join("base");
        make(&file)?;
        Ok(file)
    }

    fn add_base(&self, archive: &mut Initramfs) -> Result<()> {
        // Ordinary users pass through the root directory too.
        archive.directory(Path::new("."))?;
        for directory in
            ["dev", "etc", "mnt", "proc", "root", "run", "sys", "tmp", "usr/lib64", "var/lib", "var/tmp"]
        {
            archive.directory(Path::new(directory))?;
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            archive.link(Path::new(name), &format!("usr/{name}"))?;
        }
        for (program, place) in self.userland.programs() {
            archive.program(Path::new(place), &program, &self.userland)?;
        }
        archive.link(Path::new("usr/bin/sh"), "busybox")?;
        archive.file(Path::new("etc/mke2fs.conf"), 0o644, &self.userland.file("etc/mke2fs.conf"))?;
        archive.link(Path::new("etc/mtab"), "/proc/self/mounts")?;
        let users = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n";
        archive.bytes(Path::new("etc/passwd"), 0o644, users.as_bytes())?;
        archive.bytes(Path::new("etc/group"), 0o644, b"root:x:0:\nnogroup:x:65534:\n")
    }

    /// Appends an archive with the test programs and what is to be done.
    fn add_run(&self, initrd: &Path, run: &Run, suite: &Suite) -> Result<()> {
        let mut archive = Initramfs::new(OpenOptions::new().append(true).open(initrd)?);
        archive.bytes(Path::new("init"), 0o755, INIT.as_bytes())?;
        let mut job = format!("here {}\n", quoted(&run.here));
        let mut prefix = String::from("run");
        if let Some(calls) = &run.enosys {
            archive.program(Path::new("tests/enosys"), &host::enosys()?, &self.userland)?;
            prefix = format!("run /tests/enosys {calls}");
        }
        for program in suite.programs() {
            let name = program.file_name().unwrap_or_default().to_string_lossy();
            let place = Path::new("tests").join(&*name);
            archive.program(&place, program, &self.userland)?;
            // As `transcript` understands it.
            let arguments = ["--test-threads=1", "--color=never"].map(str::to_owned).into_iter();
            let arguments: Vec<String> =
                arguments.chain(suite.arguments().iter().map(|word| quoted(word))).collect();
            writeln!(job, "{prefix} /{} {}", place.display(), arguments.join(" "))?;
        }
        archive.bytes(Path::new("job"), 0o644, job.as_bytes())?;
        archive.finish()
    }
}

/// To boot, and for a program to begin and to end.
const BETWEEN_CASES: Duration = Duration::from_secs(120);

/// Passes on what the guest says, until it is done or in trouble; the second value says how it ended.
fn follow(guest: &mut Guest, limits: &Limits) -> Result<(Transcript, String)> {
    let mut transcript = Transcript::default();
    let mut last = Instant::now();
    loop {
        let (since, limit) = match transcript.running() {
            Some((_, since)) => (since, limits.case),
            None => (last, limits.case.max(BETWEEN_CASES)),
        };
        match guest.listen(since + limit) {
            Heard::Bytes(bytes) => {
                last = Instant::now();
                transcript.take(&bytes, last);
                let mut out = io::stdout().lock();
                out.write_all(&bytes)?;
                out.flush()?;
            }
            Heard::Silence => {
                let what = transcript.running().map_or("the guest", |(name, _)| name);
                let ending = format!("{what} took longer than {} s", limit.as_secs());
                return Ok((transcript, ending));
            }
            Heard::End if transcript.is_done() => {
                guest.end()?;
                return Ok((transcript, "its program ended without".to_owned()));
            }
            Heard::End => {
                let status = guest.end()?;
                return Ok((transcript, format!("the guest ended before its time (QEMU: {status})")));
            }
        }
    }
}

/// A word for the shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_words() {
        assert_eq!(quoted("xfs/quota"), "'xfs/quota'");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
    }
}
