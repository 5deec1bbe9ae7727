//! The `graphdriver` command: container layers by hand and from scripts.
//!
//! Parses the command line, formats what the library answers, and turns errors into exit statuses. Knows no driver.

mod archive_stream;
mod args;
mod commands;
mod compression;
mod digest;
mod failure;
mod id_maps;
mod import;
mod migrate;
mod output;
mod run;
mod shared_namespace;
mod signals;
mod store;
mod subordinate_ids;
mod user_namespace;

use std::io;
use std::process::ExitCode;

use clap::Parser;
use tracing::level_filters::LevelFilter;

use args::{Cli, Command, Global};
use failure::Failure;

fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    log_to_stderr(&global);
    let result = match &command {
        Command::MapIds => return user_namespace::map_ids(),
        Command::ContainerInit(container) => run::init(container).map_err(Failure::from),
        Command::ContainerMain(container) => {
            let (error, status) = run::become_command(container);
            let failure = Failure::from(error);
            failure.report();
            return ExitCode::from(status.unwrap_or_else(|| failure.status()));
        }
        command => commands::run(command, &global),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            failure.report();
            ExitCode::from(failure.status())
        }
    }
}

/// What the libraries have to say besides errors: warnings, and more when asked for.
fn log_to_stderr(global: &Global) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, 2) => LevelFilter::DEBUG,
        (false, _) => LevelFilter::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .init();
}
