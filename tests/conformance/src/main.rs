//! One suite for every driver, variant and backing file system.
//!
//! ```text
//! cargo test -p graphdriver-conformance                       all that can run here
//! cargo test -p graphdriver-conformance -- overlay-native/    what has this in its name
//! cargo test -p graphdriver-conformance -- --driver overlay --fs xfs,ext4
//!                                                             a driver or one of its variants, file systems; with or without a part of the name
//! cargo test -p graphdriver-conformance -- --list
//! cargo test -p graphdriver-conformance -- --strict           what lacks a need fails (also GRAPHDRIVER_STRICT=1)
//! ```
//!
//! A trial is called `<driver>-<variant>/<file system>/<case>`. As root the suite makes its file systems itself, on loop devices in a mount namespace of its
//! own, so that nothing stays behind however it ends. What needs more than there is here is shown as ignored with the reason, and listed at the end.

#![allow(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    missing_docs,
    unreachable_pub,
    reason = "a test program: a case fails by panicking, and there is no outside"
)]

mod backing;
mod cases;
mod configuration;
mod content;
mod id_mapped;
mod needs;
mod process;
mod selection;
mod served;
mod sharing;
mod store;
mod tarball;
mod trials;
mod user_namespace;
mod writer;
mod zfs;

use std::process::ExitCode;
use std::sync::Arc;

use graphdriver_conformance::tree;
use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().collect();
    if let Some(role) = words.get(1).and_then(|word| word.strip_prefix("--role=")) {
        return process::play(role, &words[2..]);
    }
    let strict = words.iter().any(|word| word == "--strict")
        || std::env::var_os("GRAPHDRIVER_STRICT").is_some_and(|value| value == "1");
    words.retain(|word| word != "--strict");
    let selection = match selection::Selection::take_from(&mut words) {
        Ok(selection) => selection,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let arguments = Arguments::from_iter(words);
    // Before the first thread, since a mount namespace is entered thread by thread.
    let stage = Arc::new(backing::Stage::new());
    let ignored = Arc::new(trials::Ignored::default());
    let conclusion = libtest_mimic::run(&arguments, trials::all(&selection, &stage, &ignored, strict));
    ignored.print();
    stage.tear_down();
    conclusion.exit_code()
}
