//! A driver behind both ends of the plugin protocol: what is asked of it goes through a socket, to a server in this process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use graphdriver_archive::DiskUsage;
use graphdriver_core::{
    AdditionalLayers, Capabilities, CreateOptions, Dedup, DeferredRemoval, Driver, DriverEntry, DriverHome,
    Feature, FileGetter, IdShift, LayerId, MountOptions, NativeDiff, OpenOptions, Problem, Registry, Result,
    StagedApply,
};
use graphdriver_plugin::{Address, Listener, PluginDriver, Server, Service, Stopper};

/// What the plugin is called.
pub const NAME: &str = "conformance";

#[derive(Debug)]
pub struct Served {
    client: PluginDriver,
    /// Dropped after the client, which gives back what it holds.
    _server: Running,
}

#[derive(Debug)]
struct Running {
    stopper: Stopper,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

impl Served {
    /// The driver `entry` in the plugin's part of `home`, by a server of its own.
    pub fn open(home: &DriverHome, entry: DriverEntry) -> Result<Self> {
        let mut registry = Registry::new();
        registry.register(entry)?;
        let dir = tempfile::Builder::new().prefix("graphdriver-plugin-").tempdir().unwrap();
        let socket = dir.path().join("socket");
        let service = Service::new(registry, Some(entry.name()), home.run_home())
            .with_options(home.options().iter().cloned());
        let server = Server::new(service, vec![Listener::unix(&socket, None)?])?;
        let stopper = server.stopper();
        let thread = std::thread::spawn(move || {
            // With the socket in it.
            let _dir = dir;
            server.run()
        });
        let server = Running { stopper, thread: Some(thread) };
        let place = OpenOptions::new(home.root(), home.run_home());
        let home = DriverHome::new(&format!("plugin:{NAME}"), &place)?;
        Ok(Self { client: PluginDriver::open_at(Address::Unix(socket), &home)?, _server: server })
    }

    pub fn opened(home: &DriverHome, entry: DriverEntry) -> Result<Arc<dyn Driver>> {
        Ok(Arc::new(Self::open(home, entry)?))
    }
}

impl Driver for Served {
    fn name(&self) -> &str {
        self.client.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.client.capabilities()
    }

    fn status(&self) -> Result<Vec<(String, String)>> {
        self.client.status()
    }

    fn features(&self) -> Vec<Feature> {
        self.client.features()
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        self.client.options()
    }

    fn create(&self, id: &LayerId, options: &CreateOptions) -> Result<()> {
        self.client.create(id, options)
    }

    fn create_from_template(&self, id: &LayerId, template: &LayerId, options: &CreateOptions) -> Result<()> {
        self.client.create_from_template(id, template, options)
    }

    fn remove(&self, id: &LayerId) -> Result<()> {
        self.client.remove(id)
    }

    fn remove_deferred(&self, id: &LayerId) -> Result<DeferredRemoval> {
        self.client.remove_deferred(id)
    }

    fn get(&self, id: &LayerId, options: &MountOptions) -> Result<PathBuf> {
        self.client.get(id, options)
    }

    fn put(&self, id: &LayerId) -> Result<()> {
        self.client.put(id)
    }

    fn exists(&self, id: &LayerId) -> Result<bool> {
        self.client.exists(id)
    }

    fn layers(&self) -> Result<Vec<LayerId>> {
        self.client.layers()
    }

    fn parent(&self, id: &LayerId) -> Result<Option<LayerId>> {
        self.client.parent(id)
    }

    fn metadata(&self, id: &LayerId) -> Result<BTreeMap<String, String>> {
        self.client.metadata(id)
    }

    fn usage(&self, id: &LayerId) -> Result<DiskUsage> {
        self.client.usage(id)
    }

    fn cleanup(&self) -> Result<()> {
        self.client.cleanup()
    }

    fn check(&self, repair: bool) -> Result<Vec<Problem>> {
        self.client.check(repair)
    }

    fn image_stores(&self) -> Vec<PathBuf> {
        self.client.image_stores()
    }

    fn native_diff(&self) -> Option<&dyn NativeDiff> {
        self.client.native_diff()
    }

    fn id_shift(&self) -> Option<&dyn IdShift> {
        self.client.id_shift()
    }

    fn staged_apply(&self) -> Option<&dyn StagedApply> {
        self.client.staged_apply()
    }

    fn additional_layers(&self) -> Option<&dyn AdditionalLayers> {
        self.client.additional_layers()
    }

    fn file_getter(&self) -> Option<&dyn FileGetter> {
        self.client.file_getter()
    }

    fn dedup(&self) -> Option<&dyn Dedup> {
        self.client.dedup()
    }
}
