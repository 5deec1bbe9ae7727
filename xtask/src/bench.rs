//! `cargo xtask bench`: how long things take, side by side with containers/storage.

use std::path::PathBuf;

use crate::Result;
use crate::command::{cargo, check, target_dir};

/// What is measured, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Where stores are made: the file system matters. By default the temporary directory.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Do everything a few times on small stacks, unoptimised: to see that it works. The figures mean nothing.
    #[arg(long)]
    quick: bool,
    /// Only the subjects whose name contains this.
    filter: Option<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut building = cargo();
    building.args(["build", "--quiet", "-p", "graphdriver-cli", "-p", "graphdriver-bench"]);
    if !options.quick {
        building.arg("--release");
    }
    check(&mut building)?;
    let built = target_dir().join(if options.quick { "debug" } else { "release" });
    let mut bench = std::process::Command::new(built.join("graphdriver-bench"));
    bench.arg("--graphdriver").arg(built.join("graphdriver"));
    if options.quick {
        bench.arg("--quick");
    }
    if let Some(dir) = &options.dir {
        bench.arg("--dir").arg(dir);
    }
    check(bench.args(&options.filter))
}
