//! Which drivers there are, and opening one.

mod driver_home;
mod selection;

use std::fmt;
use std::sync::Arc;

use crate::driver::Driver;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::Graph;

pub use driver_home::{DriverHome, OpenOptions};
pub use selection::DEFAULT_PRIORITY;

/// How a driver is found and opened: what a driver crate gives to the [`Registry`], as a constant.
#[derive(Clone, Copy)]
#[doc(alias = "InitFunc")]
pub struct DriverEntry {
    /// The names that the driver answers to; the first is its own. The name it is opened by is also the name of its home. One that ends with a colon stands for all that begin with it: what follows is for the driver.
    pub names: &'static [&'static str],
    /// Whether the driver may be chosen when nobody asked for it. One that may not is the last resort, when nothing else works.
    pub automatic: bool,
    /// Tells whether the driver would work here, by trying. Leaves nothing behind and makes no home; may make temporary files
    /// in the [nearest existing directory](DriverHome::nearest_dir).
    ///
    /// Fails with `NotSupported`, `Prerequisites` or `IncompatibleFs` where it would not, saying why; a lack of privilege is one of the prerequisites.
    pub probe: fn(&DriverHome) -> Result<()>,
    /// Opens the home, making it first if need be. Has made nothing when it fails with one of the three kinds that mean "not here".
    pub open: fn(&DriverHome) -> Result<Arc<dyn Driver>>,
}

impl DriverEntry {
    /// The driver's own name.
    pub fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or_default()
    }

    fn answers_to(&self, name: &str) -> bool {
        let answers = |own: &&str| *own == name || (own.ends_with(':') && name.starts_with(own));
        self.names.iter().any(answers)
    }
}

impl fmt::Debug for DriverEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DriverEntry")
            .field("names", &self.names)
            .field("automatic", &self.automatic)
            .finish_non_exhaustive()
    }
}

/// The drivers of a program: a value, built by whoever wants to [`select`](Self::select) one of them.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    entries: Vec<DriverEntry>,
}

impl Registry {
    /// No drivers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a driver.
    ///
    /// # Errors
    /// `InvalidArgument` when it has no name, or one that another driver has.
    #[doc(alias = "Register")]
    #[doc(alias = "MustRegister")]
    pub fn register(&mut self, entry: DriverEntry) -> Result<()> {
        let refused = |detail| Err(Error::new(ErrorKind::InvalidArgument, "register driver").detail(detail));
        if entry.names.is_empty() || entry.names.contains(&"") {
            return refused("a driver needs a name".to_owned());
        }
        if let Some(name) = entry.names.iter().find(|name| self.find(name).is_some()) {
            return refused(format!("name already registered {name}"));
        }
        self.entries.push(entry);
        Ok(())
    }

    /// The drivers, in the order in which they were added.
    pub fn entries(&self) -> &[DriverEntry] {
        &self.entries
    }

    /// The driver that answers to `name`.
    #[doc(alias = "IsRegistered")]
    pub fn find(&self, name: &str) -> Option<&DriverEntry> {
        self.entries.iter().find(|entry| entry.answers_to(name))
    }

    /// Opens the home `<root>/<name>` with the driver of that name, making it first if need be.
    ///
    /// # Errors
    /// `NotSupported` when there is no such driver, naming those that there are; otherwise as the driver says.
    #[doc(alias = "GetDriver")]
    pub fn open(&self, name: &str, options: &OpenOptions) -> Result<Graph> {
        let (entry, home) = self.resolve(name, options)?;
        (entry.open)(&home).map(Graph::new).map_err(|error| error.driver(name))
    }

    /// Tells whether the driver `name` would work with these options; makes no home.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn probe(&self, name: &str, options: &OpenOptions) -> Result<()> {
        let (entry, home) = self.resolve(name, options)?;
        (entry.probe)(&home).map_err(|error| error.driver(name))
    }

    fn resolve(&self, name: &str, options: &OpenOptions) -> Result<(&DriverEntry, DriverHome)> {
        let entry = self.find(name).ok_or_else(|| {
            let known: Vec<_> = self.entries.iter().map(DriverEntry::name).collect();
            Error::new(ErrorKind::NotSupported, "open driver")
                .detail(format!("there is no driver {name:?}; this program has: {}", known.join(", ")))
        })?;
        Ok((entry, DriverHome::new(name, options)?))
    }
}
