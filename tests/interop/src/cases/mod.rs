//! The trials, by what they try.

mod diff;
mod docker;
mod docker_hard_links;
mod exact;
mod exchange;
mod mapped;
mod mount_program;
mod open;
mod plugin;
mod podman;
mod unpack;

use crate::bench::Bench;
use crate::needs::Need;

/// Our drivers.
const DRIVERS: [&str; 3] = ["btrfs", "overlay", "vfs"];

/// Something that has to hold; panics when it does not.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) run: Run,
}

type Run = Box<dyn Fn(&Bench) -> Result<(), Need> + Send>;

impl Case {
    fn new(name: String, run: impl Fn(&Bench) -> Result<(), Need> + Send + 'static) -> Self {
        Self { name, run: Box::new(run) }
    }
}

pub(crate) fn all() -> Vec<Case> {
    let theirs = [unpack::cases(), diff::cases(), open::cases(), exchange::cases(), exact::cases()];
    let engines = [
        mapped::cases(),
        mount_program::cases(),
        docker::cases(),
        docker_hard_links::cases(),
        plugin::cases(),
        podman::cases(),
    ];
    theirs.into_iter().chain(engines).flatten().collect()
}
