//! Layers under other ids than they have on disk: shown so, or rewritten.

mod detached;
mod probe;
mod rotation;

use std::fmt::Write;

use graphdriver_core::{IdMap, IdMaps};

use crate::home::Home;
use crate::mount::IdMapping;
use crate::probe::{Feature, Probes, Verdict};

pub(crate) use detached::mount as mount_detached;
pub(crate) use probe::probe;
pub(crate) use rotation::{finish, finish_all, finish_pending, update};

/// Whether mounts can show other owners than the disk has, and how; or why not.
#[derive(Debug)]
pub(crate) struct Shifting(Result<By, String>);

/// What shows other owners.
#[derive(Clone, Copy, Debug)]
enum By {
    Kernel(IdMapping),
    /// The mount program.
    Program,
}

impl Shifting {
    /// The newest way that works, or the one that is wanted if it does.
    pub(crate) fn find(probes: &Probes, wanted: Option<IdMapping>) -> Self {
        let mut reason = String::new();
        for way in [IdMapping::Detached, IdMapping::Namespace] {
            if wanted.is_some_and(|wanted| wanted != way) {
                continue;
            }
            match probes.verdict(Feature::of_id_mapping(way)) {
                Verdict::On => return Self(Ok(By::Kernel(way))),
                Verdict::Off(why) => reason = why,
            }
        }
        tracing::debug!(reason, "mounts cannot show other owners than the disk has");
        Self(Err(reason))
    }

    /// The mount program does it.
    pub(crate) fn by_program() -> Self {
        Self(Ok(By::Program))
    }

    /// Not wanted.
    pub(crate) fn disabled() -> Self {
        Self(Err("switched off by the option disable_idmap".to_owned()))
    }

    pub(crate) fn how(&self) -> Option<IdMapping> {
        match self.0 {
            Ok(By::Kernel(how)) => Some(how),
            Ok(By::Program) | Err(_) => None,
        }
    }

    /// Whether it can be had, for some maps at least.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_ok()
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
pub(crate) fn supports_shifting(home: &Home, maps: &IdMaps) -> bool {
    match home.shifting.0 {
        // Maps with holes are fine for the kernel.
        Ok(By::Kernel(_)) => true,
        Ok(By::Program) => maps.is_contiguous(),
        Err(_) => false,
    }
}

/// The maps that the mount program is given.
pub(crate) fn for_program(home: &Home, maps: &IdMaps) -> IdMaps {
    let wanted = !maps.is_identity() && supports_shifting(home, maps);
    if wanted { maps.clone() } else { IdMaps::default() }
}

/// One line that tells mounts through different maps apart; empty for one without.
pub(crate) fn manner(home: &Home, maps: &IdMaps) -> String {
    if maps.is_identity() || !supports_shifting(home, maps) {
        return String::new();
    }
    format!("through the id maps uid {} gid {}", text(maps.uids()), text(maps.gids()))
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
