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
mod report;
mod run;
mod schedule;
mod suite;
mod transcript;
mod userland;
mod verdict;
mod zfs;

use std::path::PathBuf;
use std::time::Duration;

pub(crate) use self::host::as_if_older;
use self::matrix::Run;
pub(crate) use self::report::Tally;
use self::run::Laboratory;
use self::suite::{CONFORMANCE, Wanted};
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
    /// The file system of the guest's directory for temporary files, which the suite calls `here`: a kind, or `xfs-quota`, `ext4-quota` or
    /// `ext4-verity`. By default it is a tmpfs for the suite and ext4 for the tests of a crate.
    #[arg(long, value_name = "KIND", conflicts_with = "host")]
    here: Option<String>,
    /// `debian-6.1`, `debian-6.12`, or the path of a kernel (bzImage).
    #[arg(long, value_name = "KERNEL", conflicts_with = "host")]
    kernel: Option<String>,
    /// Modules besides the kernel's own: a directory like `/lib/modules/VERSION`.
    #[arg(long, value_name = "DIR", conflicts_with = "host")]
    modules: Option<PathBuf>,
    /// The tests of these crates instead of the conformance suite.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', conflicts_with_all = ["driver", "fs"])]
    package: Vec<String>,
    /// System calls that answer ENOSYS, separated by commas, so that what stands in for them is tried.
    #[arg(long, value_name = "CALLS", value_parser = host::system_calls)]
    enosys: Option<String>,
    /// Run on this machine's kernel, without a guest.
    #[arg(long, requires = "enosys")]
    host: bool,
    /// Every run that is worth a guest.
    #[arg(long, conflicts_with_all = ["driver", "fs", "here", "modules", "package", "enosys", "host", "skip", "filter"])]
    all: bool,
    /// Use the processor's virtualisation, which hangs where it is not usable although `/dev/kvm` opens.
    #[arg(long)]
    kvm: bool,
    /// Take what Debian's archives have now instead of what is in the cache.
    #[arg(long)]
    refresh: bool,
    /// How many guests run at the same time; by default one for each processor.
    #[arg(long, value_name = "GUESTS", default_value_t = schedule::guests_at_a_time())]
    jobs: usize,
    /// How long one case may take.
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_CASE_SECONDS)]
    case_seconds: u64,
    /// The memory of each guest, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = guest::MEMORY_MIB, conflicts_with = "host")]
    memory: usize,
    /// A variable in the environment of the tests; may be given more than once.
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable, conflicts_with = "host")]
    env: Vec<(String, String)>,
    /// No cases whose names contain one of these.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    skip: Vec<String>,
    /// Only cases whose names contain this.
    filter: Option<String>,
}

const DEFAULT_KERNEL: &str = "debian-6.12";
/// A hundred times of what a case takes in a guest beside others.
const DEFAULT_CASE_SECONDS: u64 = 300;

/// A variable as a shell can export it.
fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("not NAME=VALUE")?;
    let plain = |character: char| character.is_ascii_alphanumeric() || character == '_';
    if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) || !name.chars().all(plain) {
        return Err(format!("{name:?} is no name of a variable"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if let (true, Some(calls)) = (options.host, &options.enosys) {
        return host::run(&options.wanted(), calls);
    }
    if options.kvm {
        guest::check_kvm()?;
    }
    let runs = match &options.kernel {
        kernel if options.all => matrix::all(kernel.as_deref()),
        kernel => vec![options.run(kernel.as_deref().unwrap_or(DEFAULT_KERNEL))],
    };
    let conditions = Conditions {
        modules: options.modules.clone(),
        refresh: options.refresh,
        kvm: options.kvm,
        guests: options.jobs.max(1),
        case_limit: Duration::from_secs(options.case_seconds),
        memory_mib: options.memory,
        environment: options.env.clone(),
    };
    let tally = run_all(&runs, conditions)?;
    println!("\n{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.ignored);
    match tally {
        Tally { failed: 0, passed: 1.., .. } => Ok(()),
        Tally { failed: 0, .. } => Err("no case ran".into()),
        Tally { failed, .. } => Err(format!("{failed} cases failed in guests").into()),
    }
}

/// The runs that belong to `cargo xtask test`.
pub(crate) fn run_every_day() -> Result<Tally> {
    let conditions = Conditions {
        modules: None,
        refresh: false,
        kvm: false,
        guests: schedule::guests_at_a_time(),
        case_limit: Duration::from_secs(DEFAULT_CASE_SECONDS),
        memory_mib: guest::MEMORY_MIB,
        environment: Vec::new(),
    };
    run_all(&matrix::in_every_test(), conditions)
}

/// What holds for all guests of one command.
#[derive(Debug)]
struct Conditions {
    /// A directory with modules besides the kernels' own.
    modules: Option<PathBuf>,
    refresh: bool,
    kvm: bool,
    /// How many at a time.
    guests: usize,
    /// How long one case may take.
    case_limit: Duration,
    /// Of each guest.
    memory_mib: usize,
    /// What the tests find in their environment.
    environment: Vec<(String, String)>,
}

fn run_all(runs: &[Run], conditions: Conditions) -> Result<Tally> {
    let guests = conditions.guests;
    let laboratory = Laboratory::new(runs, conditions)?;
    let results = schedule::run_all(runs, guests, &|run, out| laboratory.run(run, out));
    let file = cache::directory("")?.join("junit.xml");
    junit::write(&results, &file)?;
    let tally = report::summarize(&results);
    println!("\nResults are in {}", file.display());
    Ok(tally)
}

impl Options {
    fn wanted(&self) -> Wanted {
        let option =
            |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("{name}={value}"));
        let options = [option("--driver", &self.driver), option("--fs", &self.fs), self.filter.clone()];
        let suite = || vec![CONFORMANCE.to_owned()];
        Wanted {
            packages: if self.package.is_empty() { suite() } else { self.package.clone() },
            arguments: options.into_iter().flatten().collect(),
            without: self.skip.clone(),
        }
    }

    fn run(&self, kernel: &str) -> Run {
        let default_here = if self.package.is_empty() { "tmpfs" } else { "ext4" };
        Run {
            left_out: self.skip.join(" and "),
            kernel: kernel.to_owned(),
            here: self.here.clone().unwrap_or_else(|| default_here.to_owned()),
            wanted: self.wanted(),
            enosys: self.enosys.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::variable;

    #[test]
    fn variables_are_those_of_a_shell() {
        let parsed = |text| variable(text).map(|(name, value)| format!("{name}: {value}"));
        assert_eq!(parsed("SIZE_1=a=b c").unwrap(), "SIZE_1: a=b c");
        assert_eq!(parsed("_=").unwrap(), "_: ");
        for wrong in ["SIZE", "=1", "1SIZE=1", "A B=1", "A;reboot=1"] {
            parsed(wrong).unwrap_err();
        }
    }
}
