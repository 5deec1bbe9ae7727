//! `cargo xtask vm-test`: the suites on other kernels, in guests of QEMU.
//!
//! A guest is a kernel as Debian packages it and an archive made here: unpacked packages, the kernel's modules, the test programs. It has no disk, installs nothing, and needs no
//! privilege. One file answers one question each; a guest that is to lose its power in the middle of a write would be another way to end it (`guest.rs`).

mod cache;
mod debian;
mod guest;
mod host;
mod initramfs;
mod junit;
mod kernel;
mod matrix;
mod modules;
mod run;
mod suite;
mod transcript;
mod userland;
mod verdict;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub(crate) use self::host::as_if_older;
use self::junit::Results;
use self::kernel::Kernel;
use self::matrix::Run;
use self::run::Laboratory;
use self::suite::{CONFORMANCE, Wanted};
use self::transcript::Outcome;
use crate::Result;

/// What runs where.
#[derive(Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "independent switches of a command line")]
pub(crate) struct Options {
    /// A driver or one of its variants in the conformance suite, such as `overlay` or `overlay-metacopy`.
    #[arg(long, value_name = "NAMES")]
    driver: Option<String>,
    /// A file system of the conformance suite.
    #[arg(long, value_name = "NAMES")]
    fs: Option<String>,
    /// The file system of the guest's directory for temporary files, which the suite calls `here`: a kind, or `xfs-quota`, `ext4-quota` or `ext4-verity`.
    #[arg(long, default_value = "tmpfs", value_name = "KIND", conflicts_with = "host")]
    here: String,
    /// `debian-6.1`, `debian-6.12`, or the path of a kernel (bzImage).
    #[arg(long, value_name = "KERNEL", conflicts_with = "host")]
    kernel: Option<String>,
    /// Modules besides the kernel's own: a directory like `/lib/modules/VERSION`.
    #[arg(long, value_name = "DIR", conflicts_with = "host")]
    modules: Option<PathBuf>,
    /// The tests of this crate instead of the conformance suite.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["driver", "fs"])]
    package: Option<String>,
    /// System calls that answer ENOSYS, separated by commas, so that what stands in for them is tried.
    #[arg(long, value_name = "CALLS", value_parser = host::system_calls)]
    enosys: Option<String>,
    /// Run on this machine's kernel, without a guest.
    #[arg(long, requires = "enosys")]
    host: bool,
    /// Every run that is worth a guest.
    #[arg(long, conflicts_with_all = ["driver", "fs", "here", "modules", "package", "enosys", "host", "filter"])]
    all: bool,
    /// Use the processor's virtualisation, which hangs where it is not usable although `/dev/kvm` opens.
    #[arg(long)]
    kvm: bool,
    /// Take what Debian's archives have now instead of what is in the cache.
    #[arg(long)]
    refresh: bool,
    /// How long one case may take.
    #[arg(long, value_name = "SECONDS", default_value = "300")]
    case_seconds: u64,
    /// Only cases whose names contain this.
    filter: Option<String>,
}

const DEFAULT_KERNEL: &str = "debian-6.12";

pub(crate) fn run(options: &Options) -> Result<()> {
    if let (true, Some(calls)) = (options.host, &options.enosys) {
        return host::run(&options.wanted(), calls);
    }
    let runs = match &options.kernel {
        kernel if options.all => matrix::all(kernel.as_deref()),
        kernel => vec![options.run(kernel.as_deref().unwrap_or(DEFAULT_KERNEL))],
    };
    let limits = Limits { case: Duration::from_secs(options.case_seconds), kvm: options.kvm };
    let tally = run_all(&runs, options.modules.as_ref(), options.refresh, &limits)?;
    println!("\n{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.ignored);
    match tally {
        Tally { failed: 0, passed: 1.., .. } => Ok(()),
        Tally { failed: 0, .. } => Err("no case ran".into()),
        Tally { failed, .. } => Err(format!("{failed} cases failed in guests").into()),
    }
}

/// The runs that belong to `cargo xtask test`.
pub(crate) fn run_every_day() -> Result<Tally> {
    run_all(&matrix::in_every_test(), None, false, &Limits { case: Duration::from_secs(300), kvm: false })
}

/// How many cases ended how.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

#[derive(Debug)]
struct Limits {
    case: Duration,
    kvm: bool,
}

fn run_all(runs: &[Run], modules: Option<&PathBuf>, refresh: bool, limits: &Limits) -> Result<Tally> {
    let laboratory = Laboratory::new(refresh)?;
    let mut results: Vec<Results> = Vec::new();
    for run in runs {
        let started = Instant::now();
        println!("\n\x1b[1m==> {}\x1b[0m", run.name());
        let kernel = Kernel::find(&run.kernel, modules.map(PathBuf::as_path), refresh)?;
        println!("Linux {}", kernel.release);
        let cases = laboratory.run(run, &kernel, limits)?;
        println!("{}: {:.0} s", run.name(), started.elapsed().as_secs_f64());
        results.push((run.name(), cases));
    }
    let file = cache::directory("")?.join("junit.xml");
    junit::write(&results, &file)?;
    println!("\nResults are in {}", file.display());
    Ok(report(&results))
}

/// Lists the failures of all runs, those of one cause together, and counts.
fn report(results: &[Results]) -> Tally {
    let mut tally = Tally::default();
    for (run, cases) in results {
        let mut causes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for case in cases {
            match &case.outcome {
                Outcome::Passed => tally.passed += 1,
                Outcome::Ignored(_) => tally.ignored += 1,
                Outcome::Failed(message) => {
                    tally.failed += 1;
                    causes.entry(message.trim_end()).or_default().push(&case.name);
                }
            }
        }
        for (message, names) in causes {
            println!("\nFAILED on {run}:\n    {}\n{message}", names.join("\n    "));
        }
    }
    tally
}

impl Options {
    fn wanted(&self) -> Wanted {
        let option =
            |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("{name}={value}"));
        let options = [option("--driver", &self.driver), option("--fs", &self.fs), self.filter.clone()];
        Wanted {
            package: self.package.clone().unwrap_or_else(|| CONFORMANCE.to_owned()),
            arguments: options.into_iter().flatten().collect(),
        }
    }

    fn run(&self, kernel: &str) -> Run {
        Run {
            kernel: kernel.to_owned(),
            here: self.here.clone(),
            wanted: self.wanted(),
            enosys: self.enosys.clone(),
        }
    }
}
