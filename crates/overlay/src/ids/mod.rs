//! Layers under other ids than they have on disk: shown so, or rewritten.

mod probe;
mod rotation;

use std::fmt::Write;

use graphdriver_core::{IdMap, IdMaps};

use crate::home::Home;
use crate::mount::IdMapping;
use crate::probe::{Feature, Probes, Verdict};

pub(crate) use probe::probe;
pub(crate) use rotation::{finish, finish_all, finish_pending, update};

/// Whether mounts can show other owners than the disk has, and how; or why not.
#[derive(Debug)]
pub(crate) struct Shifting(Result<IdMapping, String>);

impl Shifting {
    /// The newest way that works, or the one that is wanted if it does.
    pub(crate) fn find(probes: &Probes, wanted: Option<IdMapping>) -> Self {
        let mut reason = String::new();
        for way in [IdMapping::Detached, IdMapping::Namespace] {
            if wanted.is_some_and(|wanted| wanted != way) {
                continue;
            }
            match probes.verdict(Feature::of_id_mapping(way)) {
                Verdict::On => return Self(Ok(way)),
                Verdict::Off(why) => reason = why,
            }
        }
        tracing::debug!(reason, "mounts cannot show other owners than the disk has");
        Self(Err(reason))
    }

    /// Not wanted.
    pub(crate) fn disabled() -> Self {
        Self(Err("switched off by the option disable_idmap".to_owned()))
    }

    pub(crate) fn how(&self) -> Option<IdMapping> {
        self.0.as_ref().ok().copied()
    }

    /// Why mounts cannot.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.0.as_ref().err().map(String::as_str)
    }
}

/// How a mount through `maps` is made; `None` for one that shows owners as they are on disk.
pub(crate) fn mapping(home: &Home, maps: &IdMaps) -> Option<IdMapping> {
    home.shifting.how().filter(|_| !maps.is_identity())
}

/// Whether a mount through `maps` shows other owners than the disk has.
pub(crate) fn supports_shifting(home: &Home, _maps: &IdMaps) -> bool {
    // Maps with holes are fine for the kernel.
    home.shifting.how().is_some()
}

/// One line that tells mounts through different maps apart; empty for one without.
pub(crate) fn manner(home: &Home, maps: &IdMaps) -> String {
    match mapping(home, maps) {
        Some(_) => format!("through the id maps uid {} gid {}", text(maps.uids()), text(maps.gids())),
        None => String::new(),
    }
}

/// `container:host:size`, as podman's options have it, with commas between ranges.
fn text(ranges: &[IdMap]) -> String {
    let mut text = String::new();
    for IdMap { container_id, host_id, size } in ranges {
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a string does not fail.
        let _ = write!(text, "{comma}{container_id}:{host_id}:{size}");
    }
    if text.is_empty() { "0:0:4294967295".to_owned() } else { text }
}
