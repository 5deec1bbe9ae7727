//! What Docker said when it started, and the driver that was opened for it.
//!
//! Docker says it once in its life. A server that ends and is started again meanwhile finds it in a file beside its marks.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use graphdriver_core::{
    DriverOption, Error, ErrorKind, Graph, IdMap, IdMaps, OpenOptions, Registry, Result, write_atomic,
};

use crate::wire::InitRequest;

const FILE: &str = "init.json";

/// How drivers are opened here.
#[derive(Debug)]
pub(crate) struct Opener {
    pub(crate) registry: Registry,
    pub(crate) driver: Option<String>,
    pub(crate) run_root: PathBuf,
    pub(crate) options: Vec<DriverOption>,
}

/// An opened driver, for one `Init`.
#[derive(Debug)]
pub(crate) struct Initialized {
    pub(crate) request: InitRequest,
    pub(crate) graph: Graph,
    /// As Docker said for all containers (`--userns-remap`).
    pub(crate) id_maps: IdMaps,
}

impl Opener {
    /// Opens the driver as asked for.
    ///
    /// # Errors
    /// `InvalidArgument` for a home that is not absolute, options and maps that make no sense; as the driver.
    pub(crate) fn open(&self, request: InitRequest) -> Result<Initialized> {
        let invalid = |detail: String| Error::new(ErrorKind::InvalidArgument, "initialize").detail(detail);
        if !request.home.is_absolute() {
            return Err(invalid(format!("the home {:?} is not an absolute path", request.home)));
        }
        let maps = |maps: &[crate::wire::IdMapMessage]| maps.iter().copied().map(IdMap::from).collect();
        let id_maps = IdMaps::new(maps(&request.uid_maps), maps(&request.gid_maps))?;
        let asked: Result<Vec<DriverOption>> = request.options.iter().map(|text| text.parse()).collect();
        let options = OpenOptions::new(&request.home, &self.run_root)
            .with_options(self.options.iter().cloned())
            .with_options(asked?);
        let graph = self.registry.select(self.driver.as_deref(), &options)?;
        Ok(Initialized { request, graph, id_maps })
    }

    /// Notes `request` for the next server.
    ///
    /// # Errors
    /// `Io` when that cannot be written.
    pub(crate) fn note(&self, request: &InitRequest) -> Result<()> {
        let failed = |call: &'static str| move |error| Error::io(call, &self.run_root, error);
        DirBuilder::new().recursive(true).mode(0o700).create(&self.run_root).map_err(failed("mkdir"))?;
        let dir = File::open(&self.run_root).map_err(failed("open"))?;
        let text = serde_json::to_vec(request).map_err(|error| failed("write")(error.into()))?;
        write_atomic(&dir, FILE, &text, 0o600).map_err(|error| error.path(self.run_root.join(FILE)))
    }

    /// What the last server noted.
    ///
    /// # Errors
    /// `Io` when there is something that cannot be read.
    pub(crate) fn noted(&self) -> Result<Option<InitRequest>> {
        let path = self.run_root.join(FILE);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|error| Error::io("read", &path, error))?,
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| Error::io("read", &path, error.into()))
    }
}
