//! How long things take, side by side with the peers: `cargo xtask bench`. One file for each subject; [`BENCHMARKS`] is the table of them.
//!
//! What is compared is like with like: a call in this process with nothing, a command with a command. Both work on the same kind of store, on the same file
//! system, one after the other.

mod changes;
mod mounts;
mod peer;
mod samples;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use graphdriver::fs_magic;

use samples::Samples;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Measures graphdriver, and prints medians with the ratio to the peer's.
#[derive(Debug, Parser)]
struct Options {
    /// Do everything a few times on small stacks, to see that it works; the figures mean nothing.
    #[arg(long)]
    quick: bool,
    /// The graphdriver command to measure.
    #[arg(long)]
    graphdriver: PathBuf,
    /// Where stores are made; the file system matters.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Only the subjects whose name contains this.
    filter: Option<String>,
}

/// Where a benchmark works.
struct Setting {
    /// The graphdriver command.
    command: PathBuf,
    /// An empty directory.
    dir: PathBuf,
    /// Only to see that it works.
    quick: bool,
}

impl Setting {
    /// How often to do what is done `count` times for a figure.
    fn times(&self, count: usize) -> usize {
        if self.quick { 2 } else { count }
    }
}

/// One thing that was measured.
struct Row {
    what: String,
    ours: Samples,
    peers: Peers,
}

/// What containers-storage took for the same.
enum Peers {
    /// It is not installed, or has nothing like it.
    None,
    Took(Samples),
    /// It cannot do this one, and says why.
    Refused(String),
}

/// Measures one subject.
type Benchmark = fn(&Setting) -> Result<Vec<Row>>;

/// Every subject.
const BENCHMARKS: &[(&str, Benchmark)] = &[("changes", changes::run), ("mounts", mounts::run)];

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let above = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    let kernel = nix::sys::utsname::uname()?;
    println!("Linux {}, {}", kernel.release().display(), fs_magic(&above)?);
    println!(
        "Peer: {}\n",
        peer::version().unwrap_or_else(|| "containers-storage is not installed".to_owned())
    );
    println!("{:44} {:>28} {:>28} {:>6}", "", "graphdriver", "containers-storage", "ratio");
    let wanted = |name: &str| options.filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()));
    for (name, benchmark) in BENCHMARKS.iter().filter(|(name, _)| wanted(name)) {
        let dir = tempfile::Builder::new().prefix("graphdriver-bench-").tempdir_in(&above)?;
        let setting = Setting {
            command: options.graphdriver.clone(),
            dir: dir.path().to_owned(),
            quick: options.quick,
        };
        println!("{name}");
        benchmark(&setting)?.iter().for_each(print);
    }
    println!("\nMedian (10th to 90th percentile). A ratio below 1: graphdriver takes less time.");
    println!("Load average after it: {}", std::fs::read_to_string("/proc/loadavg")?.trim());
    Ok(())
}

fn print(row: &Row) {
    let (peers, ratio, refusal) = match &row.peers {
        Peers::None => ("-".to_owned(), "-".to_owned(), None),
        Peers::Took(samples) => (samples.to_string(), format!("{:.2}", row.ours.ratio(samples)), None),
        Peers::Refused(reason) => ("refused".to_owned(), "-".to_owned(), Some(reason)),
    };
    println!("  {:42} {:>28} {peers:>28} {ratio:>6}", row.what, row.ours.to_string());
    if let Some(reason) = refusal {
        println!("    {reason}");
    }
}
