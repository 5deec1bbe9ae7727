//! References to real mounts, counted by real processes.
//!
//! Needs root, since only a kernel can say whether something is mounted: shown as ignored, to be run with `--include-ignored`. Works in a mount namespace
//! of its own, so that nothing stays mounted whatever happens.

#![allow(clippy::unwrap_used, reason = "a test helper that fails fails the test")]

mod layer;
mod process;
mod tests;

use libtest_mimic::{Arguments, Trial};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

fn main() {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == process::ROLE) {
        return process::serve(args);
    }
    let arguments = Arguments::from_args();
    if arguments.ignored || arguments.include_ignored {
        enter_private_mount_namespace();
    }
    let trials = tests::ALL.iter().map(|(name, test)| {
        let trial = Trial::test(*name, || {
            test();
            Ok(())
        });
        trial.with_kind("needs root").with_ignored_flag(true)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

fn enter_private_mount_namespace() {
    unshare(CloneFlags::CLONE_NEWNS).expect("these tests need root");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>).unwrap();
}
