//! Tasks of this repository: `cargo xtask <task>`. One file per task.

mod bench;
mod command;
mod demo;
mod demo_image;
mod ordinary_user;
mod plugin_bundle;
mod test;
mod tidy;
mod vm;

use std::process::ExitCode;

use clap::Parser;

/// What every task returns: the text of a failure is for people.
type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Tasks of this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
enum Task {
    /// Measure how long things take, side by side with containers/storage. Needs root.
    Bench(bench::Options),
    /// Show the main job from image to diff, on a small image made from this machine's own shell.
    Demo(demo::Options),
    /// Make a directory of which Docker makes a managed plugin.
    PluginBundle(plugin_bundle::Options),
    /// Run every test that this machine can run; as root also install what that needs.
    Test(test::Options),
    /// Check what the compiler does not: dependency direction, file sizes, links, machine paths.
    Tidy,
    /// Run the suites on other kernels, in guests that QEMU makes of Debian's packages.
    VmTest(Box<vm::Options>),
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Bench(options) => bench::run(&options),
        Task::Demo(options) => demo::run(&options),
        Task::PluginBundle(options) => plugin_bundle::run(&options),
        Task::Test(options) => test::run(&options),
        Task::Tidy => tidy::run(),
        Task::VmTest(options) => vm::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
