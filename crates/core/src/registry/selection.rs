//! Which driver is opened when nobody names one.

use std::fs;
use std::io::ErrorKind::{NotADirectory, NotFound};
use std::path::Path;

use super::{DriverEntry, OpenOptions, Registry};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::Graph;

/// In which order drivers are tried where there is nothing yet, unless the caller has an order of his own.
#[doc(alias = "Priority")]
pub const DEFAULT_PRIORITY: [&str; 4] = ["overlay", "btrfs", "zfs", "aufs"];

impl Registry {
    /// Opens the driver `name`, or chooses one:
    ///
    /// 1. The one whose home is there already. When it fails to open, that is the answer: with another one, all layers would be gone from sight. A home of a
    ///    driver that is not [automatic](DriverEntry::automatic) counts when it is the only one.
    /// 2. Where there is none, the first that works of [`OpenOptions::priority`] or else [`DEFAULT_PRIORITY`], of the other automatic drivers, of the rest.
    ///    A driver is passed over when it fails with `NotSupported`, `Prerequisites` or `IncompatibleFs`; any other failure is the answer.
    ///
    /// Nothing is opened or made before the choice is clear.
    ///
    /// # Errors
    /// `InvalidArgument` when there are homes of several drivers; `NotSupported` when no driver works here, saying why for each; otherwise as the chosen driver says.
    #[doc(alias = "New")]
    pub fn select(&self, name: Option<&str>, options: &OpenOptions) -> Result<Graph> {
        if let Some(name) = name {
            return self.open(name, options);
        }
        match &*self.preferred_homes(&options.root)? {
            [] => self.open_first_usable(options),
            [name] => self.open(name, options),
            several => Err(Error::new(ErrorKind::InvalidArgument, "choose driver").path(&options.root).detail(format!(
                "contains several valid graphdrivers: {}; clean up, or choose one explicitly (--driver <DRIVER>)",
                several.join(", ")
            ))),
        }
    }

    /// The names, sorted, of all homes in `root`: directories that have the name of a driver and are not empty.
    ///
    /// # Errors
    /// `PermissionDenied` or `Io` for what cannot be looked into: a home that is there must not be taken for absent.
    #[doc(alias = "ScanPriorDrivers")]
    #[doc(alias = "HasPriorDriver")]
    #[doc(alias = "IsInitialized")]
    pub fn homes(&self, root: &Path) -> Result<Vec<&'static str>> {
        self.homes_where(root, |_| true)
    }

    /// The homes of automatic drivers, or else those of others: a leftover of a last resort does not make the choice unclear.
    fn preferred_homes(&self, root: &Path) -> Result<Vec<&'static str>> {
        let automatic = self.homes_where(root, |entry| entry.automatic)?;
        if automatic.is_empty() { self.homes(root) } else { Ok(automatic) }
    }

    fn homes_where(&self, root: &Path, wanted: impl Fn(&DriverEntry) -> bool) -> Result<Vec<&'static str>> {
        let entries = self.entries().iter().filter(|entry| wanted(entry));
        let mut homes = Vec::new();
        for name in entries.flat_map(|entry| entry.names.iter().copied()) {
            if is_home(&root.join(name))? {
                homes.push(name);
            }
        }
        homes.sort_unstable();
        Ok(homes)
    }

    fn open_first_usable(&self, options: &OpenOptions) -> Result<Graph> {
        let mut reasons = Vec::new();
        for name in self.order(&options.priority) {
            match self.probe(name, options).and_then(|()| self.open(name, options)) {
                Err(error) if error.kind().is_unsupported() => {
                    tracing::debug!(error = %error.report(), "driver passed over");
                    reasons.push(error.report().to_string());
                }
                result => return result,
            }
        }
        let detail = format!("no supported storage driver found: {}", reasons.join("; "));
        Err(Error::new(ErrorKind::NotSupported, "choose driver").detail(detail))
    }

    /// The names to try, each driver once. A name that no driver has stays in, so that its absence is told.
    fn order<'a>(&'a self, priority: &'a [String]) -> Vec<&'a str> {
        let mut order: Vec<&str> = if priority.is_empty() {
            DEFAULT_PRIORITY.into_iter().filter(|name| self.find(name).is_some()).collect()
        } else {
            priority.iter().map(String::as_str).collect()
        };
        for automatic in [true, false] {
            for entry in self.entries().iter().filter(|entry| entry.automatic == automatic) {
                if !order.iter().any(|name| entry.answers_to(name)) {
                    order.push(entry.name());
                }
            }
        }
        order
    }
}

fn is_home(path: &Path) -> Result<bool> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(false),
        Err(error) => Err(Error::io("look for homes in", path, error)),
    }
}
