//! One run: what is put into a guest, and what comes out of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::guest::{Guest, Heard, Machine};
use super::initramfs::Initramfs;
use super::kernel::Kernel;
use super::matrix::Run;
use super::report::Results;
use super::suite::Suite;
use super::transcript::Transcript;
use super::userland::Userland;
use super::{Conditions, cache, host, modules, verdict, zfs};
use crate::Result;

/// The first process of a guest.
const INIT: &str = include_str!("init.sh");

/// What the runs have in common, all of it built or fetched: several can be made at the same time.
pub(super) struct Laboratory {
    userland: Userland,
    /// By name, and by whether they have the modules of ZFS.
    kernels: BTreeMap<(String, bool), Kernel>,
    /// By the crates that they are of.
    suites: BTreeMap<Vec<String>, Suite>,
    enosys: Option<PathBuf>,
    conditions: Conditions,
    /// Where the programs of the suites lie.
    _programs: TempDir,
}

impl Laboratory {
    /// Prepares what is needed for `runs`.
    pub(super) fn new(runs: &[Run], conditions: Conditions) -> Result<Self> {
        let programs = tempfile::tempdir_in(cache::directory("")?)?;
        let wanted: BTreeSet<(String, bool)> = runs.iter().map(kernel_of).collect();
        let packages: BTreeSet<&Vec<String>> = runs.iter().map(|run| &run.wanted.packages).collect();
        // Cargo and make keep a processor each busy for most of the time only.
        let (kernels, suites) = thread::scope(|scope| {
            let kernels: Vec<_> = wanted
                .into_iter()
                .map(|wanted| {
                    scope.spawn(|| find_kernel(wanted, &conditions).map_err(|error| error.to_string()))
                })
                .collect();
            let suites: Result<BTreeMap<_, _>> = packages
                .into_iter()
                .map(|packages| Ok((packages.clone(), Suite::build(packages, programs.path())?)))
                .collect();
            let kernels: Result<BTreeMap<_, _>, String> = kernels
                .into_iter()
                .map(|kernel| kernel.join().map_err(|_| "it panicked".to_owned())?)
                .collect();
            (kernels, suites)
        });
        let (kernels, suites) = (kernels?, suites?);
        let enosys = runs.iter().any(|run| run.enosys.is_some()).then(host::enosys).transpose()?;
        let userland = Userland::find(conditions.refresh)?;
        Ok(Self { userland, kernels, suites, enosys, conditions, _programs: programs })
    }

    /// Runs a suite in a guest, passes on what it prints, and returns every case with what became of it.
    pub(super) fn run(&self, run: &Run, out: &mut dyn Write) -> Result<Results> {
        let (kernel, suite) = (&self.kernels[&kernel_of(run)], &self.suites[&run.wanted.packages]);
        writeln!(out, "Linux {}", kernel.release)?;
        let names = suite.names(&run.wanted.command_line())?;
        if names.iter().all(Vec::is_empty) {
            return Err("there is no such case".into());
        }
        let directory = tempfile::tempdir_in(cache::directory("")?)?;
        let initrd = directory.path().join("initrd");
        fs::copy(self.base(kernel, directory.path())?, &initrd)?;
        self.add_run(&initrd, run, suite, kernel)?;
        let logs = cache::directory(&format!("logs/{}", file_name(&run.name())))?;
        let Conditions { kvm, memory_mib, .. } = self.conditions;
        let machine = Machine { kernel: &kernel.image, initrd: &initrd, kvm, memory_mib, logs: &logs };
        let mut guest = machine.boot(&self.userland)?;
        let (transcript, ending) = follow(&mut guest, self.conditions.case_limit, out)?;
        let last_words = (!transcript.is_done()).then(|| guest.last_words());
        if let Some(last_words) = &last_words {
            writeln!(out, "\n{ending}; its last words:\n{last_words}")?;
        }
        let exits = transcript.exits().to_vec();
        let cases = transcript.into_cases(&ending, Instant::now());
        let cases = verdict::judge(cases, &names, &exits, |reason| kernel.excuses(reason), &ending);
        Ok(Results { name: run.name(), cases, last_words })
    }

    /// An archive with all that does not change from run to run, kept by the versions of what is in it.
    fn base(&self, kernel: &Kernel, aside: &Path) -> Result<PathBuf> {
        let make = |file: &Path| {
            let mut archive = Initramfs::new(File::create(file)?);
            // Before the others of these names, which stay out then.
            kernel.zfs.as_ref().map_or(Ok(()), |programs| zfs::add_programs(&mut archive, programs))?;
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
    fn add_run(&self, initrd: &Path, run: &Run, suite: &Suite, kernel: &Kernel) -> Result<()> {
        let mut archive = Initramfs::new(OpenOptions::new().append(true).open(initrd)?);
        for library in kernel.zfs.as_ref().map(zfs::libraries).transpose()?.unwrap_or_default() {
            archive.leave_out(library);
        }
        archive.bytes(Path::new("init"), 0o755, INIT.as_bytes())?;
        let mut job = format!("here {}\n", quoted(&run.here));
        for (name, value) in &self.conditions.environment {
            writeln!(job, "export {name}={}", quoted(value))?;
        }
        let mut prefix = String::from("run");
        if let (Some(calls), Some(enosys)) = (&run.enosys, &self.enosys) {
            archive.program(Path::new("tests/enosys"), enosys, &self.userland)?;
            prefix = format!("run /tests/enosys {calls}");
        }
        for program in suite.companions() {
            let place = Path::new("tests/bin").join(program.file_name().unwrap_or_default());
            archive.program(&place, program, &self.userland)?;
            // Where the tests look for it, another file system may lie by then.
            let path = program.to_string_lossy();
            writeln!(job, "also {} {}", quoted(&format!("/{}", place.display())), quoted(&path))?;
        }
        for program in suite.programs() {
            let name = program.file_name().unwrap_or_default().to_string_lossy();
            let place = Path::new("tests").join(&*name);
            archive.program(&place, program, &self.userland)?;
            // As `transcript` understands it.
            let arguments = ["--test-threads=1", "--color=never"].map(str::to_owned).into_iter();
            let arguments: Vec<String> =
                arguments.chain(run.wanted.command_line().iter().map(|word| quoted(word))).collect();
            writeln!(job, "{prefix} /{} {}", place.display(), arguments.join(" "))?;
        }
        archive.bytes(Path::new("job"), 0o644, job.as_bytes())?;
        archive.finish()
    }
}

/// The kernel of this name, with the modules of ZFS if they are wanted.
fn find_kernel(
    (name, with_zfs): (String, bool),
    conditions: &Conditions,
) -> Result<((String, bool), Kernel)> {
    let mut kernel = Kernel::find(&name, conditions.modules.as_deref(), conditions.refresh)?;
    if with_zfs {
        kernel.add_zfs(conditions.refresh)?;
    }
    Ok(((name, with_zfs), kernel))
}

fn kernel_of(run: &Run) -> (String, bool) {
    (run.kernel.clone(), run.needs_zfs())
}

/// To boot, and for a program to begin and to end.
const BETWEEN_CASES: Duration = Duration::from_secs(120);

/// Passes on what the guest says, until it is done or in trouble; the second value says how it ended.
fn follow(guest: &mut Guest, case_limit: Duration, out: &mut dyn Write) -> Result<(Transcript, String)> {
    let mut transcript = Transcript::default();
    let mut last = Instant::now();
    loop {
        let (since, limit) = match transcript.running() {
            Some((_, since)) => (since, case_limit),
            None => (last, case_limit.max(BETWEEN_CASES)),
        };
        match guest.listen(since + limit) {
            Heard::Bytes(bytes) => {
                last = Instant::now();
                transcript.take(&bytes, last);
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

/// In bytes; a file system takes 255.
const LONGEST_NAME: usize = 200;

/// A name without what a path or a shell would take for something else.
fn file_name(name: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || character == '.';
    let words = name.split(|character| !plain(character)).filter(|word| !word.is_empty());
    let mut file = words.collect::<Vec<_>>().join("-");
    if file.len() > LONGEST_NAME {
        // All of it is ASCII.
        file.truncate(LONGEST_NAME);
        file = format!("{file}-{}", cache::digest([name]));
    }
    file
}

/// A word for the shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_runs_name_files() {
        let name = "debian-6.1 --fs=xfs,btrfs quota, without statx";
        assert_eq!(file_name(name), "debian-6.1-fs-xfs-btrfs-quota-without-statx");
        assert_eq!(file_name("/boot/../bzImage"), "boot-..-bzImage");
        let [one, other] = ["a", "b"].map(|end| file_name(&format!("{}{end}", "x".repeat(300))));
        assert!(one != other && one.len() < 255, "{one}");
    }

    #[test]
    fn words_stay_words() {
        assert_eq!(quoted("xfs/quota"), "'xfs/quota'");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
    }
}
