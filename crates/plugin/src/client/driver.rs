//! A plugin as a driver.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use graphdriver_core::{
    AdditionalLayers, Capabilities, CreateOptions, Dedup, DeferredRemoval, DiskUsage, Driver, DriverEntry,
    DriverHome, Error, ErrorKind, Feature, FileGetter, IdMaps, IdShift, LayerApplyOptions, LayerId,
    LayerKind, MountOptions, NativeDiff, Problem, Result, StagedApply,
};
use parking_lot::Mutex;

use super::address::{Address, find_plugin};
use super::caller::Caller;
use super::options::PluginOptions;
use crate::wire::{
    Activation, CapabilitiesReply, CreateRequest, ErrorReply, ExistsReply, GRAPH_DRIVER, GetReply,
    GetRequest, InitRequest, LAYER_INVENTORY, LayersReply, MetadataReply, ParentReply, RemoveRequest,
    StatusReply, UsageReply,
};

/// What comes before a plugin's name where drivers are named.
const PREFIX: &str = "plugin:";

/// Every driver `plugin:NAME`: the plugin that [is called so](find_plugin).
pub const DRIVER: DriverEntry = DriverEntry {
    names: &[PREFIX],
    automatic: false,
    probe: |home| {
        let (address, options) = (find_plugin(plugin_name(home)?)?, PluginOptions::parse(home.options())?);
        activate(&Caller { address, driver: home.name().to_owned(), options }).map(drop)
    },
    open: |home| Ok(Arc::new(PluginDriver::open(home)?)),
};

/// A driver whose work a plugin does.
///
/// The plugin keeps what its layers are made of below `<root>/NAME`, where it sees that path. Mounts are the plugin's: they are seen from here when both are in one mount namespace.
///
/// The protocol knows less than [`Driver`] does. What it has no words for is `NotSupported` where it would change what comes out (maps of ids, further mount options), and ignored where it only
/// forbids or saves something: [`read_only`](MountOptions::read_only), [`volatile`](MountOptions::volatile). Layers are listed, and parents and usage told, by plugins that
/// this crate serves. Errors of other plugins are of kind [`Command`](ErrorKind::Command), unless asking once more shows what they are.
#[derive(Debug)]
pub struct PluginDriver {
    pub(super) caller: Caller,
    reproduces_exact_diffs: bool,
    /// Whether the other end is this crate's: it tells more, and can be strict.
    is_ours: bool,
    /// References that this process holds.
    held: Mutex<HashMap<LayerId, u64>>,
}

impl PluginDriver {
    /// Opens the plugin that the home is named after (`plugin:NAME`).
    ///
    /// # Errors
    /// `Prerequisites` when there is no such plugin; `NotSupported` when it is none for layers; `InvalidArgument` for an option that makes no sense; `Io` when it cannot be reached; as it says.
    pub fn open(home: &DriverHome) -> Result<Self> {
        Self::open_at(find_plugin(plugin_name(home)?)?, home)
    }

    /// Opens the plugin at `address`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_at(address: Address, home: &DriverHome) -> Result<Self> {
        let name = plugin_name(home)?;
        let options = PluginOptions::parse(home.options())?;
        let caller = Caller { address, driver: home.name().to_owned(), options };
        let activation = activate(&caller)?;
        let init = InitRequest {
            home: home.root().join(name),
            options: caller.options.forwarded.clone(),
            ..InitRequest::default()
        };
        let _: ErrorReply = caller.call("GraphDriver.Init", None, &init)?;
        // Plugins older than Docker 17.05 know nothing of it.
        let capabilities: Result<CapabilitiesReply> =
            caller.call("GraphDriver.Capabilities", None, &RemoveRequest::default());
        let capabilities = match capabilities {
            Err(error) if error.kind() == ErrorKind::NotSupported => CapabilitiesReply::default(),
            result => result?,
        };
        Ok(Self {
            reproduces_exact_diffs: capabilities.capabilities.reproduces_exact_diffs,
            is_ours: activation.implements.iter().any(|name| name == LAYER_INVENTORY),
            held: Mutex::default(),
            caller,
        })
    }

    /// What the plugin said of a layer that is not there has no kind, if it is somebody else's.
    pub(super) fn or_unknown(&self, error: Error, id: &LayerId) -> Error {
        if error.kind() != ErrorKind::Command || self.is_ours {
            return error;
        }
        match self.exists(id) {
            Ok(false) => Error::layer_unknown("use", id).driver(self.name()).source(error),
            _ => error,
        }
    }

    fn ask<T: serde::de::DeserializeOwned>(&self, method: &'static str, id: &LayerId) -> Result<T> {
        let request = GetRequest { id: id.to_string(), mount_label: String::new() };
        self.caller.call(method, Some(id), &request).map_err(|error| self.or_unknown(error, id))
    }

    /// Forgets one reference that this process holds; tells whether there was one.
    fn release(&self, id: &LayerId) -> bool {
        let mut held = self.held.lock();
        let Some(count) = held.get_mut(id) else { return false };
        *count -= 1;
        if *count == 0 {
            held.remove(id);
        }
        true
    }

    fn act(&self, method: &'static str, id: &LayerId, strict: bool) -> Result<()> {
        let request = RemoveRequest { id: id.to_string(), strict };
        let reply: Result<ErrorReply> = self.caller.call(method, Some(id), &request);
        reply.map(drop).map_err(|error| self.or_unknown(error, id))
    }

    fn unsupported(&self, operation: &'static str, detail: &str) -> Error {
        Error::new(ErrorKind::NotSupported, operation).driver(self.name()).detail(detail)
    }

    /// Other plugins merge into what is there, or fail with who knows what.
    fn check_new(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<()> {
        if self.is_ours {
            return Ok(());
        }
        if self.exists(id)? {
            return Err(Error::layer_exists("create", id));
        }
        match parent {
            Some(parent) if !self.exists(parent)? => Err(Error::parent_unknown("create", parent)),
            _ => Ok(()),
        }
    }

    fn check_known(&self, operation: &'static str, id: &LayerId) -> Result<()> {
        if self.exists(id)? { Ok(()) } else { Err(Error::layer_unknown(operation, id)) }
    }

    /// Fills `id` with what `template` has beyond its parent.
    fn copy(&self, id: &LayerId, template: &LayerId, parent: Option<&LayerId>) -> Result<()> {
        let refused = || self.unsupported("copy", "the plugin neither reads nor fills layers");
        let mut diff = self.diff(template, parent, &IdMaps::default())?.ok_or_else(refused)?;
        self.apply(id, &mut diff, &LayerApplyOptions::default())?.ok_or_else(refused)?;
        diff.finish()
    }
}

fn plugin_name(home: &DriverHome) -> Result<&str> {
    let name = home.name().strip_prefix(PREFIX).filter(|name| !name.is_empty());
    name.ok_or_else(|| {
        Error::new(ErrorKind::NotSupported, "open driver")
            .detail("which plugin? the driver's name is plugin:NAME")
    })
}

fn activate(caller: &Caller) -> Result<Activation> {
    let activation: Activation = caller.call("Plugin.Activate", None, &RemoveRequest::default())?;
    if activation.implements.iter().any(|name| name == GRAPH_DRIVER) {
        return Ok(activation);
    }
    let detail = format!("the plugin implements {:?}, not {GRAPH_DRIVER}", activation.implements);
    Err(Error::new(ErrorKind::NotSupported, "open driver").driver(&caller.driver).detail(detail))
}

impl Driver for PluginDriver {
    fn name(&self) -> &str {
        &self.caller.driver
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            native_diff: true,
            native_apply: true,
            exact_diffs: self.reproduces_exact_diffs,
            ..Capabilities::default()
        }
    }

    fn status(&self) -> Result<Vec<(String, String)>> {
        let reply: StatusReply = self.caller.call("GraphDriver.Status", None, &RemoveRequest::default())?;
        Ok(reply.status)
    }

    fn features(&self) -> Vec<Feature> {
        Vec::new()
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        let seconds = |time: std::time::Duration| time.as_secs().to_string();
        let options = &self.caller.options;
        vec![
            ("timeout", seconds(options.timeout.unwrap_or_default())),
            ("connect_timeout", seconds(options.connect_timeout)),
        ]
    }

    fn create(&self, id: &LayerId, options: &CreateOptions) -> Result<()> {
        if !options.id_maps.is_identity() {
            return Err(self.unsupported("create", "a plugin has the maps of ids that it was started with"));
        }
        self.check_new(id, options.parent.as_ref())?;
        let limit = |key: &str, value: Option<u64>| value.map(|value| (key.to_owned(), value.to_string()));
        let limits = [limit("size", options.quota.bytes), limit("inodes", options.quota.inodes)];
        let request = CreateRequest {
            id: id.to_string(),
            parent: options.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
            mount_label: options.label.clone().unwrap_or_default(),
            storage_options: limits.into_iter().flatten().collect(),
        };
        let method = match options.kind {
            LayerKind::ReadOnly => "GraphDriver.Create",
            LayerKind::ReadWrite => "GraphDriver.CreateReadWrite",
        };
        let reply: Result<ErrorReply> = self.caller.call(method, Some(id), &request);
        reply.map(drop)
    }

    /// By an archive of the template, since the protocol knows no copies.
    fn create_from_template(&self, id: &LayerId, template: &LayerId, options: &CreateOptions) -> Result<()> {
        if !self.exists(template)? {
            return Err(Error::parent_unknown("create", template));
        }
        self.create(id, options)?;
        self.copy(id, template, options.parent.as_ref()).inspect_err(|_| {
            if let Err(error) = self.remove(id) {
                tracing::warn!(error = %error.report(), "a layer that could not be filled stays");
            }
        })
    }

    fn remove(&self, id: &LayerId) -> Result<()> {
        if self.held.lock().contains_key(id) {
            return Err(Error::new(ErrorKind::LayerInUse, "remove").layer(id).detail("the layer is mounted"));
        }
        if !self.is_ours {
            self.check_known("remove", id)?;
        }
        self.act("GraphDriver.Remove", id, self.is_ours)
    }

    fn remove_deferred(&self, id: &LayerId) -> Result<DeferredRemoval> {
        self.remove(id).map(|()| DeferredRemoval::done())
    }

    fn get(&self, id: &LayerId, options: &MountOptions) -> Result<PathBuf> {
        if !options.id_maps.is_identity() {
            return Err(self.unsupported("mount", "a plugin shows the owners that it was started with"));
        }
        if let Some(option) = options.extra.first() {
            let detail = format!("a plugin takes no mount options, and so not {option:?}");
            return Err(Error::new(ErrorKind::InvalidArgument, "mount").layer(id).detail(detail));
        }
        let label = options.label.clone().unwrap_or_default();
        let request = GetRequest { id: id.to_string(), mount_label: label };
        let reply: Result<GetReply> = self.caller.call("GraphDriver.Get", Some(id), &request);
        let dir = reply.map_err(|error| self.or_unknown(error, id))?.dir;
        if !options.persistent {
            *self.held.lock().entry(id.clone()).or_default() += 1;
        }
        Ok(dir)
    }

    fn put(&self, id: &LayerId) -> Result<()> {
        // One that is held from here may have gone with a mount that somebody else has ended.
        let is_held = self.release(id);
        self.act("GraphDriver.Put", id, self.is_ours && !is_held)
    }

    fn exists(&self, id: &LayerId) -> Result<bool> {
        let request = GetRequest { id: id.to_string(), mount_label: String::new() };
        let reply: ExistsReply = self.caller.call("GraphDriver.Exists", Some(id), &request)?;
        Ok(reply.exists)
    }

    fn layers(&self) -> Result<Vec<LayerId>> {
        if !self.is_ours {
            return Err(self.unsupported("list layers", "this plugin does not tell"));
        }
        let reply: LayersReply =
            self.caller.call("LayerInventory.Layers", None, &RemoveRequest::default())?;
        reply.layers.iter().map(|id| id.parse()).collect()
    }

    fn parent(&self, id: &LayerId) -> Result<Option<LayerId>> {
        if !self.is_ours {
            return self.check_known("find parent of", id).map(|()| None);
        }
        let reply: ParentReply = self.ask("LayerInventory.Parent", id)?;
        if reply.parent.is_empty() { Ok(None) } else { reply.parent.parse().map(Some) }
    }

    fn metadata(&self, id: &LayerId) -> Result<BTreeMap<String, String>> {
        let reply: MetadataReply = self.ask("GraphDriver.GetMetadata", id)?;
        if !self.is_ours {
            self.check_known("describe", id)?;
        }
        Ok(reply.metadata)
    }

    fn usage(&self, id: &LayerId) -> Result<DiskUsage> {
        if !self.is_ours {
            return Err(self.unsupported("measure", "this plugin does not tell"));
        }
        let UsageReply { bytes, inodes } = self.ask("LayerInventory.Usage", id)?;
        Ok(DiskUsage { bytes, inodes })
    }

    /// Other plugins unmount everything, and so are only asked to when nothing is mounted from here.
    fn cleanup(&self) -> Result<()> {
        if !self.is_ours && !self.held.lock().is_empty() {
            return Ok(());
        }
        let request = RemoveRequest { id: String::new(), strict: self.is_ours };
        let reply: Result<ErrorReply> = self.caller.call("GraphDriver.Cleanup", None, &request);
        reply.map(drop)
    }

    fn check(&self, _repair: bool) -> Result<Vec<Problem>> {
        Err(self.unsupported("check", "the protocol has no such call; check the home with the driver itself"))
    }

    fn image_stores(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    fn native_diff(&self) -> Option<&dyn NativeDiff> {
        Some(self)
    }

    fn id_shift(&self) -> Option<&dyn IdShift> {
        None
    }

    fn staged_apply(&self) -> Option<&dyn StagedApply> {
        None
    }

    fn additional_layers(&self) -> Option<&dyn AdditionalLayers> {
        None
    }

    fn file_getter(&self) -> Option<&dyn FileGetter> {
        None
    }

    fn dedup(&self) -> Option<&dyn Dedup> {
        None
    }
}

impl Drop for PluginDriver {
    /// References end with whoever holds them; the plugin cannot know.
    fn drop(&mut self) {
        for (id, count) in std::mem::take(self.held.get_mut()) {
            for _ in 0..count {
                if let Err(error) = self.act("GraphDriver.Put", &id, false) {
                    tracing::warn!(error = %error.report(), "a layer stays mounted");
                }
            }
        }
    }
}
