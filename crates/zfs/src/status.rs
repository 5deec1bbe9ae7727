//! What is told of a home and of its layers.

use std::collections::BTreeMap;

use graphdriver_core::{DiskUsage, Error, ErrorKind, FsMagic, LayerId, Result};

use crate::home::Home;
use crate::parse;
use crate::pool::odd;

/// Facts about pool and parent dataset, under the names that the Go drivers use.
///
/// # Errors
/// `Command` when the pool cannot be asked.
pub(crate) fn status(home: &Home) -> Result<Vec<(String, String)>> {
    let pool = &home.pool;
    let values = pool.values(&pool.parent, ["used", "available", "quota", "compression"])?;
    let [used, available, mut quota, compression] = values.ok_or_else(|| {
        Error::new(ErrorKind::Command, "ask for status").detail(format!("there is no {} now", pool.parent))
    })?;
    if parse::number(&quota) == Some(0) {
        "no".clone_into(&mut quota);
    }
    let facts = [
        ("Backing Filesystem", FsMagic::ZFS.to_string().as_str().to_owned()),
        ("Zpool", pool.parent.pool().to_owned()),
        ("Zpool Health", pool.health()?),
        ("Parent Dataset", pool.parent.to_string()),
        ("Space Used By Parent", used),
        ("Space Available", available),
        ("Parent Quota", quota),
        ("Compression", compression),
    ];
    Ok(facts.map(|(name, value)| (name.to_owned(), value)).into())
}

/// # Errors
/// `LayerUnknown` when there is no such layer.
pub(crate) fn metadata(home: &Home, id: &LayerId) -> Result<BTreeMap<String, String>> {
    let dataset = home.require("describe", id)?;
    let mount_point = home.mount_point(id).display().to_string();
    Ok(BTreeMap::from([("Dataset".to_owned(), dataset.to_string()), ("Mountpoint".to_owned(), mount_point)]))
}

/// What the layer takes beside what it shares with the layer that it was cloned from, by the pool's counters.
///
/// # Errors
/// `LayerUnknown` when there is no such layer; `Command`.
pub(crate) fn usage(home: &Home, id: &LayerId) -> Result<DiskUsage> {
    let dataset = home.require("measure", id)?;
    // An unmounted dataset has nothing that is still to be written.
    if home.references.is_mounted(&home.mount_point(id))? {
        home.pool.sync()?;
    }
    let used = home.pool.get(&dataset, "used")?.ok_or_else(|| Error::layer_unknown("measure", id))?;
    let bytes = parse::number(&used).ok_or_else(|| odd("zfs list"))?;
    let own = objects(home, dataset.as_str())?;
    let shared = match home.origin(&dataset)? {
        Some(origin) => objects(home, &origin)?,
        None => 0,
    };
    Ok(DiskUsage { bytes, inodes: own.saturating_sub(shared) })
}

/// How many files and directories there are in a dataset or snapshot, by the counters of their owners.
fn objects(home: &Home, name: &str) -> Result<u64> {
    let asked = ["userspace", "-H", "-p", "-n", "-o", "objused", name];
    let output = home.pool.programs.zfs(&asked).map_err(|failure| failure.during("count files"))?;
    parse::sum(&output)
        .ok_or_else(|| Error::new(ErrorKind::Command, "count files").source(odd("zfs userspace")))
}
