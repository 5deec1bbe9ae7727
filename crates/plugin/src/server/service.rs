//! What each call does.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use graphdriver_core::{
    CreateOptions, DriverOption, Error, ErrorKind, Graph, LayerApplyOptions, LayerId, LayerKind,
    MountOptions, Quota, Registry, Result, parse_size,
};
use parking_lot::{Mutex, RwLock};

use super::answer::Answer;
use super::filling::Filling;
use super::initialized::{Initialized, Opener};
use crate::wire::{
    Activation, Call, CapabilitiesReply, ChangesReply, CreateRequest, ErrorReply, ExistsReply, GRAPH_DRIVER,
    GetReply, InitRequest, LAYER_INVENTORY, LayersReply, MetadataReply, ParentReply, PluginCapabilities,
    SizeReply, StatusReply, UsageReply,
};

/// What Docker's own drivers say where a layer's size cannot be limited (`quota.ErrQuotaNotSupported`).
const NO_QUOTA: &str = "Filesystem does not support, or has not enabled quotas";

/// Answers calls with a driver, which `GraphDriver.Init` opens.
///
/// The home that Docker names becomes the driver's root: layers are in `<home>/<driver>`. References to mounts are
/// [persistent](MountOptions::persistent), so that a server which ends, in whatever way, can be followed by another one; where layers are mounted, what `Init` said, and which layers are
/// being filled is kept below the run root.
#[derive(Debug)]
pub struct Service {
    opener: Opener,
    filling: Filling,
    initialized: RwLock<Option<Arc<Initialized>>>,
    /// Held while one is opened.
    opening: Mutex<()>,
}

impl Service {
    /// Answers with the driver `driver` of `registry`, or the one that fits the home, as [`Registry::select`] has it. `run_root` is a directory for this service alone, for what does not outlive the machine's uptime.
    pub fn new(registry: Registry, driver: Option<&str>, run_root: impl Into<PathBuf>) -> Self {
        let run_root = run_root.into();
        Self {
            filling: Filling::new(run_root.join("filling")),
            opener: Opener { registry, driver: driver.map(str::to_owned), run_root, options: Vec::new() },
            initialized: RwLock::default(),
            opening: Mutex::default(),
        }
    }

    /// Adds driver options; those of `Init` come after them.
    #[must_use]
    pub fn with_options(mut self, options: impl IntoIterator<Item = DriverOption>) -> Self {
        self.opener.options.extend(options);
        self
    }

    /// Opens the driver as the last `Init` asked a service with the same run root, since Docker says it only when it starts. Tells whether there was one.
    ///
    /// # Errors
    /// As the driver. The service works all the same, once there is another `Init`.
    pub fn resume(&self) -> Result<bool> {
        match self.opener.noted()? {
            Some(request) => self.init(request).map(|()| true),
            None => Ok(false),
        }
    }

    /// Gives back all references to mounts that Docker has taken, so that nothing stays mounted.
    ///
    /// # Errors
    /// The first failure; what could be unmounted is.
    pub fn release(&self) -> Result<()> {
        let Some(initialized) = self.initialized.read().clone() else { return Ok(()) };
        release(&initialized.graph)
    }

    /// Carries out `call`; `archive` is the body of a call that has one of bytes.
    pub(crate) fn answer(&self, call: Call, archive: &mut dyn Read) -> Answer {
        self.try_answer(call, archive).unwrap_or_else(|error| {
            tracing::info!(error = %error.report(), "a call failed");
            Answer::failure(&error)
        })
    }

    fn try_answer(&self, call: Call, archive: &mut dyn Read) -> Result<Answer> {
        let done = |()| Answer::json(&ErrorReply::default());
        let call = match call {
            Call::Activate => return Ok(Answer::json(&activation())),
            Call::Init(request) => return self.init(request).map(done),
            call => call,
        };
        let Initialized { graph, id_maps, .. } = &*self.initialized()?;
        Ok(match call {
            Call::Activate | Call::Init(_) => done(()),
            Call::Capabilities => {
                let reproduces_exact_diffs = graph.capabilities().exact_diffs;
                Answer::json(&CapabilitiesReply {
                    capabilities: PluginCapabilities { reproduces_exact_diffs },
                })
            }
            Call::Create { id, parent, request } => {
                let options = CreateOptions { parent, id_maps: id_maps.clone(), ..CreateOptions::default() };
                create(graph, &id, options, &request).map(done)?
            }
            Call::CreateReadWrite { id, parent, request } => {
                let kind = LayerKind::ReadWrite;
                let id_maps = id_maps.clone();
                create(
                    graph,
                    &id,
                    CreateOptions { parent, kind, id_maps, ..CreateOptions::default() },
                    &request,
                )
                .map(done)?
            }
            Call::Remove { id, strict } => self.remove(graph, &id, strict).map(done)?,
            Call::Get { id, label } => {
                let options = MountOptions { label, persistent: true, ..MountOptions::default() };
                let dir = graph.driver().get(&id, &options).map_err(|error| named(error, graph, &id))?;
                Answer::json(&GetReply { dir })
            }
            Call::Put { id, strict } => put(graph, &id, strict).map(done)?,
            Call::Exists(id) => Answer::json(&ExistsReply { exists: graph.exists(&id)? }),
            Call::Status => Answer::json(&StatusReply { status: graph.status()? }),
            Call::GetMetadata(id) => Answer::json(&MetadataReply { metadata: graph.metadata(&id)? }),
            Call::Cleanup { strict: true } => graph.cleanup().map(done)?,
            Call::Cleanup { strict: false } => {
                let released = release(graph);
                graph.cleanup().and(released).map(done)?
            }
            Call::Diff { id, parent } => {
                Answer::Archive(Box::new(graph.diff(&id, parent.as_ref(), id_maps)?))
            }
            Call::Changes { id, parent } => {
                let changes = graph.changes(&id, parent.as_ref())?;
                Answer::json(&ChangesReply { changes: changes.iter().map(Into::into).collect() })
            }
            Call::ApplyDiff { id, parent: _, strict } => {
                let options = LayerApplyOptions { id_maps: id_maps.clone(), ..LayerApplyOptions::default() };
                let apply = |archive: &mut dyn Read| graph.apply(&id, archive, &options);
                let applied = if strict { apply(archive) } else { self.filling.fill(&id, archive, apply) }?;
                Answer::json(&SizeReply { size: signed(applied.bytes), entries: Some(applied.entries) })
            }
            Call::DiffSize { id, parent } => {
                let bytes = graph.diff_size(&id, parent.as_ref())?;
                Answer::json(&SizeReply { size: signed(bytes), entries: None })
            }
            Call::Layers => {
                let layers = graph.layers()?.iter().map(ToString::to_string).collect();
                Answer::json(&LayersReply { layers })
            }
            Call::Parent(id) => {
                let parent = graph.parent(&id)?.map(|parent| parent.to_string()).unwrap_or_default();
                Answer::json(&ParentReply { parent })
            }
            Call::Usage(id) => {
                let usage = graph.usage(&id)?;
                Answer::json(&UsageReply { bytes: usage.bytes, inodes: usage.inodes })
            }
        })
    }

    fn initialized(&self) -> Result<Arc<Initialized>> {
        self.initialized.read().clone().ok_or_else(|| {
            Error::new(ErrorKind::InvalidArgument, "serve")
                .detail("not initialized: GraphDriver.Init comes first; restart Docker if it ran before this plugin did")
        })
    }

    /// What is the same as before changes nothing: Docker says it at each start.
    fn init(&self, request: InitRequest) -> Result<()> {
        let _one_at_a_time = self.opening.lock();
        if self.initialized.read().as_ref().is_some_and(|initialized| initialized.request == request) {
            return Ok(());
        }
        let initialized = self.opener.open(request)?;
        self.opener.note(&initialized.request)?;
        *self.initialized.write() = Some(Arc::new(initialized));
        Ok(())
    }

    /// Docker removes what it does not know to be there, and what it has left mounted when it was killed.
    fn remove(&self, graph: &Graph, id: &LayerId, strict: bool) -> Result<()> {
        let removed = match graph.remove(id) {
            Err(error) if !strict && error.kind() == ErrorKind::LayerUnknown => Ok(()),
            Err(error) if !strict && error.kind() == ErrorKind::LayerInUse => {
                put_all(graph, id)?;
                graph.remove(id)
            }
            removed => removed,
        };
        removed.inspect(|()| self.filling.forget(id))
    }
}

fn activation() -> Activation {
    Activation { implements: [GRAPH_DRIVER, LAYER_INVENTORY].map(str::to_owned).to_vec() }
}

fn create(graph: &Graph, id: &LayerId, options: CreateOptions, request: &CreateRequest) -> Result<()> {
    let quota = quota(request)?;
    let label = Some(request.mount_label.clone()).filter(|label| !label.is_empty());
    graph.create(id, &CreateOptions { quota, label, ..options }).map_err(|error| {
        if error.kind() == ErrorKind::NotSupported && !quota.is_unlimited() {
            return Error::new(error.kind(), "limit")
                .driver(graph.name())
                .layer(id)
                .detail(NO_QUOTA)
                .source(error);
        }
        error
    })
}

fn quota(request: &CreateRequest) -> Result<Quota> {
    let mut quota = Quota::default();
    for (key, value) in &request.storage_options {
        let invalid =
            |detail: String| Error::new(ErrorKind::InvalidArgument, "parse storage option").detail(detail);
        match &*key.to_lowercase() {
            "size" => quota.bytes = Some(parse_size(value)?),
            "inodes" => {
                let inodes = value.parse();
                quota.inodes =
                    Some(inodes.map_err(|_| invalid(format!("{value:?} is no number of inodes")))?);
            }
            _ => return Err(invalid(format!("unknown option {key:?}; known options are: size, inodes"))),
        }
    }
    Ok(quota)
}

/// Docker puts what it never got, when a container fails before it is mounted.
fn put(graph: &Graph, id: &LayerId, strict: bool) -> Result<()> {
    match graph.unmount(id) {
        Err(error) if !strict && is_nothing_to_put(error.kind()) => Ok(()),
        result => result,
    }
}

fn is_nothing_to_put(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::InvalidArgument | ErrorKind::LayerUnknown)
}

/// Gives back every reference to the layer: all in this run root are Docker's.
fn put_all(graph: &Graph, id: &LayerId) -> Result<()> {
    loop {
        match graph.unmount(id) {
            Ok(()) => {}
            Err(error) if is_nothing_to_put(error.kind()) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn release(graph: &Graph) -> Result<()> {
    graph.layers()?.iter().map(|id| put_all(graph, id)).fold(Ok(()), Result::and)
}

fn named(error: Error, graph: &Graph, id: &LayerId) -> Error {
    error.driver(graph.name()).layer(id)
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
