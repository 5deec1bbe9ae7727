//! Layers against the programs of others: GNU tar, umoci, containers/storage, which podman and its kin keep layers with, podman itself, and dockerd.
//!
//! ```text
//! cargo xtask test interop                            makes the layers first
//! GRAPHDRIVER_TEST_LAYERS=DIR cargo test -p graphdriver-interop -- [FILTER]
//! ... -- --list
//! ... -- --strict                                     what lacks a need fails (also GRAPHDRIVER_STRICT=1)
//! ```
//!
//! `DIR` is what `tests/data/make-layers.sh DIR` filled. Needs root and about 3 GB of memory: all work is done on file systems in memory, in a mount namespace of
//! this process's own. What needs more than there is here is shown as ignored with the reason.

#![allow(clippy::unwrap_used, clippy::unwrap_in_result, reason = "a test program: a case fails by panicking")]

mod agree;
mod bench;
mod cases;
mod differences;
mod edit;
mod layers;
mod needs;
mod peer;
mod shell;
mod stage;
mod store;
mod trials;
mod unpacker;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::Arguments;

use crate::bench::Bench;
use crate::layers::Layers;
use crate::stage::Stage;

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().collect();
    if words.get(1).is_some_and(|word| word == peer::plugin::ROLE) {
        return peer::plugin::play(&words[2..]);
    }
    let strict = words.iter().any(|word| word == "--strict")
        || std::env::var_os("GRAPHDRIVER_STRICT").is_some_and(|value| value == "1");
    words.retain(|word| word != "--strict");
    let arguments = Arguments::from_iter(words);
    // Before the first thread, since a mount namespace is entered thread by thread.
    let bench = Arc::new(Bench::new(Stage::new(), Layers::from_environment()));
    libtest_mimic::run(&arguments, trials::all(&bench, strict)).exit_code()
}
