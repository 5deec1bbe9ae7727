//! What is asked of the pool, and what it is told to do.

use graphdriver_core::{Error, ErrorKind, Result};

use crate::command::{Failure, Programs, Reason};
use crate::dataset::Dataset;
use crate::library::Library;
use crate::parse;

/// The mount point, as a property, of datasets that are mounted by `mount(2)`: all that are layers.
pub(crate) const LEGACY: &str = "legacy";

/// The datasets below one, through the programs, and through the library for what that answers.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    pub(crate) programs: Programs,
    pub(crate) library: Library,
    pub(crate) parent: Dataset,
}

/// What there is below the parent dataset.
#[derive(Debug)]
pub(crate) struct Inventory {
    /// The layers and everything else with a mount point of its own kind, by the last part of the name.
    pub(crate) datasets: Vec<String>,
    /// Snapshots that nobody has asked to be removed: `layer@name`.
    pub(crate) snapshots: Vec<String>,
}

impl Pool {
    /// Whether there is a dataset of this name that is mounted as layers are.
    pub(crate) fn has_layer(&self, dataset: &Dataset) -> Result<bool> {
        Ok(self.get(dataset, "mountpoint")?.is_some_and(|mountpoint| mountpoint == LEGACY))
    }

    /// A property of a dataset; `None` when there is no such file system.
    pub(crate) fn get(&self, dataset: &Dataset, property: &str) -> Result<Option<String>> {
        Ok(self.values(dataset, [property])?.map(|[value]| value))
    }

    /// Several properties of a dataset; `None` when there is no such file system.
    pub(crate) fn values<const N: usize>(
        &self,
        dataset: &Dataset,
        properties: [&str; N],
    ) -> Result<Option<[String; N]>> {
        if let Some(answer) = self.library.values(dataset, properties) {
            return Ok(answer);
        }
        let asked = properties.join(",");
        match self.programs.zfs(&["list", "-H", "-p", "-t", "filesystem", "-o", &asked, dataset.as_str()]) {
            Ok(output) => {
                let rows = parse::rows::<N>(&output).ok_or_else(|| odd("zfs list"))?;
                Ok(rows.into_iter().next().map(|values| values.map(str::to_owned)))
            }
            Err(failure) if failure.reason == Reason::Missing => Ok(None),
            Err(failure) => Err(failure.during("ask for property of dataset")),
        }
    }

    /// Names and mount points of the datasets directly below the parent.
    pub(crate) fn children(&self) -> Result<Vec<(String, String)>> {
        let below = |name: &str| Some(self.parent.below(name)?.to_owned());
        if let Some(rows) = self.library.children(&self.parent, ["name", "mountpoint"]) {
            let rows = rows.into_iter();
            return Ok(rows.filter_map(|[name, mountpoint]| Some((below(&name)?, mountpoint))).collect());
        }
        let arguments = [
            "list",
            "-H",
            "-p",
            "-r",
            "-d",
            "1",
            "-t",
            "filesystem",
            "-o",
            "name,mountpoint",
            self.parent.as_str(),
        ];
        let output = self.programs.zfs(&arguments).map_err(|failure| failure.during("list datasets"))?;
        let rows = parse::rows::<2>(&output).ok_or_else(|| odd("zfs list"))?;
        let rows = rows.into_iter();
        Ok(rows.filter_map(|[name, mountpoint]| Some((below(name)?, mountpoint.to_owned()))).collect())
    }

    /// Everything below the parent that may have been left by a killed process.
    pub(crate) fn inventory(&self) -> Result<Inventory> {
        let arguments = [
            "list",
            "-H",
            "-p",
            "-r",
            "-d",
            "2",
            "-t",
            "filesystem,snapshot",
            "-o",
            "name,defer_destroy",
            self.parent.as_str(),
        ];
        let output = self.programs.zfs(&arguments).map_err(|failure| failure.during("list datasets"))?;
        let rows = parse::rows::<2>(&output).ok_or_else(|| odd("zfs list"))?;
        let mut inventory = Inventory { datasets: Vec::new(), snapshots: Vec::new() };
        for [name, deferred] in rows {
            let Some(name) = self.parent.below(name) else { continue };
            match (name.contains('@'), deferred) {
                (false, _) => inventory.datasets.push(name.to_owned()),
                (true, "off") => inventory.snapshots.push(name.to_owned()),
                (true, _) => {}
            }
        }
        Ok(inventory)
    }

    /// What was cloned from the layer `dataset`; `None` when there is no such layer.
    pub(crate) fn clones(&self, dataset: &Dataset) -> Result<Option<Vec<String>>> {
        let arguments = [
            "list",
            "-H",
            "-p",
            "-r",
            "-d",
            "1",
            "-t",
            "filesystem,snapshot",
            "-o",
            "name,mountpoint,clones",
            dataset.as_str(),
        ];
        let output = match self.programs.zfs(&arguments) {
            Err(failure) if failure.reason == Reason::Missing => return Ok(None),
            output => output.map_err(|failure| failure.during("list snapshots"))?,
        };
        let rows = parse::rows::<3>(&output).ok_or_else(|| odd("zfs list"))?;
        let is_layer =
            rows.iter().any(|[name, mountpoint, _]| *name == dataset.as_str() && *mountpoint == LEGACY);
        let clones = rows.iter().flat_map(|[_, _, clones]| clones.split(','));
        let clones = clones.filter(|clone| !clone.is_empty() && *clone != "-").map(str::to_owned);
        Ok(is_layer.then(|| clones.collect()))
    }

    /// The health of the pool, such as `ONLINE`.
    pub(crate) fn health(&self) -> Result<String> {
        if let Some(health) = self.library.pool_health(self.parent.pool()) {
            return Ok(health);
        }
        let output = self.programs.zpool(&["list", "-H", "-o", "health", self.parent.pool()]);
        let output = output.map_err(|failure| failure.during("ask for health of pool"))?;
        Ok(String::from_utf8_lossy(&output).trim_end().to_owned())
    }

    /// Makes an empty dataset, with a limit of `quota` bytes.
    pub(crate) fn create(&self, dataset: &Dataset, quota: Option<u64>) -> Result<(), Failure> {
        let quota = quota_option(quota);
        let mut arguments = vec!["create", "-o", "mountpoint=legacy"];
        arguments.extend(quota.iter().flat_map(|quota| ["-o", quota]));
        arguments.push(dataset.as_str());
        self.programs.zfs(&arguments).map(drop)
    }

    /// Makes `dataset` a clone of `origin` as it is now; `snapshot` is the name of what the two have in common, which goes when the clone does.
    pub(crate) fn clone(
        &self,
        origin: &Dataset,
        snapshot: &str,
        dataset: &Dataset,
        quota: Option<u64>,
    ) -> Result<(), Failure> {
        let snapshot = format!("{origin}@{snapshot}");
        self.programs.zfs_patiently(&["snapshot", &snapshot])?;
        let quota = quota_option(quota);
        let mut arguments = vec!["clone", "-o", "mountpoint=legacy"];
        arguments.extend(quota.iter().flat_map(|quota| ["-o", quota]));
        arguments.extend([snapshot.as_str(), dataset.as_str()]);
        let cloned = self.programs.zfs(&arguments).map(drop);
        // Deferred: it stays as long as the clone needs it.
        let destroyed = self.destroy_snapshot(&snapshot);
        cloned.and(destroyed)
    }

    /// Removes a snapshot, or has it removed with the last of its clones. None of this name is fine.
    pub(crate) fn destroy_snapshot(&self, snapshot: &str) -> Result<(), Failure> {
        unless_missing(self.programs.zfs_patiently(&["destroy", "-d", snapshot]))
    }

    /// Gives a dataset another name.
    pub(crate) fn rename(&self, from: &Dataset, to: &Dataset) -> Result<(), Failure> {
        self.programs.zfs_patiently(&["rename", from.as_str(), to.as_str()]).map(drop)
    }

    /// Deletes a dataset with its snapshots, waiting while it is busy. None of this name is fine.
    pub(crate) fn destroy(&self, dataset: &Dataset) -> Result<(), Failure> {
        unless_missing(self.programs.zfs_patiently(&["destroy", "-r", dataset.as_str()]))
    }

    /// Deletes a dataset with its snapshots, unless it is busy. None of this name is fine.
    pub(crate) fn destroy_if_idle(&self, dataset: &Dataset) -> Result<(), Failure> {
        unless_missing(self.programs.zfs(&["destroy", "-r", dataset.as_str()]))
    }

    /// Has the counters of the pool written, which lag behind by some seconds.
    pub(crate) fn sync(&self) -> Result<()> {
        let synced = self.programs.zpool(&["sync", self.parent.pool()]);
        synced.map(drop).map_err(|failure| failure.during("sync pool"))
    }
}

/// The error for an output that is not what `-H -p` promises.
pub(crate) fn odd(command: &str) -> Error {
    Error::new(ErrorKind::Command, "read output")
        .detail(format!("`{command}` printed something else than the table that was asked for"))
}

fn quota_option(bytes: Option<u64>) -> Option<String> {
    bytes.map(|bytes| format!("quota={bytes}"))
}

fn unless_missing(result: Result<Vec<u8>, Failure>) -> Result<(), Failure> {
    match result {
        Err(failure) if failure.reason != Reason::Missing => Err(failure),
        _ => Ok(()),
    }
}
