//! `import`, `run`.

use std::ffi::OsString;

use graphdriver::{CreateOptions, Graph, LayerId, LayerKind, MountOptions};

use super::{Session, contents};
use crate::args::{Import, Run};
use crate::failure::{Failure, Result};
use crate::import::{self, Interrupt, Progress};
use crate::output;
use crate::run;
use crate::signals::{STOP, Signals};

pub(super) fn import(session: &Session, args: &Import) -> Result {
    let interrupt = Interrupt::new(Signals::block(STOP)?);
    let image = import::open(&args.image)?;
    let graph = session.store.open()?;
    let progress = Progress::new(session.quiet);
    let layers = import::import(&graph, &image, &progress, &interrupt).map_err(|failure| match failure {
        Failure::Error(error) => session.privilege.explain(error).into(),
        other => other,
    })?;
    if session.json {
        return output::json(&layers);
    }
    layers.last().map_or(Ok(()), |top| output::line(&top.id))
}

pub(super) fn run(session: &Session, args: &Run) -> Result<u8> {
    let signals = Signals::block(run::signals())?;
    let graph = session.store.open()?;
    let layer = ScratchLayer::on(&graph, &args.id, args.keep.as_ref())?;
    let shell = [OsString::from("/bin/sh")];
    let command = if args.command.is_empty() { &shell[..] } else { &args.command };
    let status = {
        let mount = graph.mount(&layer.id, &MountOptions::default())?;
        // A copy of a large layer takes its time, and somebody may have lost patience meanwhile.
        if let Some(signal) = signals.stop_request() {
            mount.unmount()?;
            return Err(Failure::Interrupted(signal));
        }
        let status = run::supervise(mount.path(), command, &signals)?;
        mount.unmount()?;
        status
    };
    if args.changes {
        contents::print_changes(session, &graph, &layer.id, Some(&args.id))?;
    }
    if args.keep.is_some() {
        layer.keep();
    } else {
        layer.remove()?;
    }
    Ok(status)
}

/// A read-write layer for one command, removed when it is no longer needed unless somebody wants to keep it.
struct ScratchLayer<'a> {
    graph: &'a Graph,
    id: LayerId,
    /// Whether dropping has to remove it.
    is_ours: bool,
}

impl<'a> ScratchLayer<'a> {
    fn on(graph: &'a Graph, parent: &LayerId, name: Option<&LayerId>) -> Result<Self> {
        let id = match name {
            Some(name) => name.clone(),
            None => format!("run-{:016x}", rand::random::<u64>()).parse()?,
        };
        graph.create(&id, &CreateOptions { kind: LayerKind::ReadWrite, ..CreateOptions::on(parent) })?;
        Ok(Self { graph, id, is_ours: true })
    }

    fn keep(mut self) {
        self.is_ours = false;
    }

    fn remove(mut self) -> Result {
        self.is_ours = false;
        Ok(self.graph.remove(&self.id)?)
    }
}

impl Drop for ScratchLayer<'_> {
    fn drop(&mut self) {
        if !self.is_ours {
            return;
        }
        if let Err(error) = self.graph.remove(&self.id) {
            tracing::warn!(error = %error.report(), "the layer of the command stays");
        }
    }
}
