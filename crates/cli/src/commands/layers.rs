//! `create`, `remove`, `list`, `exists`, `metadata`, `usage`.

use graphdriver::{CreateOptions, Error, Graph, LayerId, LayerKind, Quota};
use serde::Serialize;

use super::{Session, remove_order};
use crate::args::{Create, Remove};
use crate::failure::{Failure, Result};
use crate::output;

pub(super) fn create(session: &Session, args: &Create) -> Result {
    let graph = session.store.open()?;
    let kind = if args.rw { LayerKind::ReadWrite } else { LayerKind::ReadOnly };
    let quota = Quota { bytes: args.size, inodes: args.inodes };
    let parent = match (&args.parent, &args.template) {
        (None, Some(template)) => graph.parent(template)?,
        (parent, _) => parent.clone(),
    };
    let options =
        CreateOptions { parent, kind, quota, id_maps: args.ids.maps()?, ..CreateOptions::default() };
    match &args.template {
        None => graph.create(&args.id, &options)?,
        Some(template) => graph.create_from_template(&args.id, template, &options)?,
    }
    Ok(())
}

/// Removes what can be removed, and reports each that cannot.
pub(super) fn remove(session: &Session, args: &Remove) -> Result {
    let graph = session.store.open()?;
    let mut last: Option<Failure> = None;
    for id in remove_order::children_first(&args.ids, |id| graph.parent(id).ok().flatten()) {
        if let Err(error) = graph.remove(&id)
            && let Some(failure) = last.replace(error.into())
        {
            failure.report();
        }
    }
    last.map_or(Ok(()), Err)
}

#[derive(Serialize)]
struct Layer {
    id: String,
    parent: Option<String>,
}

pub(super) fn list(session: &Session) -> Result {
    let graph = session.store.open()?;
    let ids = graph.layers()?;
    if session.json {
        let layers = ids.iter().map(|id| layer(&graph, id)).collect::<Result<Vec<_>, _>>()?;
        return output::json(&layers);
    }
    output::print(|out| ids.iter().try_for_each(|id| writeln!(out, "{id}")))
}

fn layer(graph: &Graph, id: &LayerId) -> Result<Layer, Error> {
    let parent = graph.parent(id)?.map(|parent| parent.to_string());
    Ok(Layer { id: id.to_string(), parent })
}

pub(super) fn exists(session: &Session, id: &LayerId) -> Result<u8> {
    let exists = session.store.open()?.exists(id)?;
    Ok(u8::from(!exists))
}

pub(super) fn metadata(session: &Session, id: &LayerId) -> Result {
    let metadata = session.store.open()?.metadata(id)?;
    if session.json {
        return output::json(&metadata);
    }
    output::table(&metadata.into_iter().collect::<Vec<_>>())
}

#[derive(Serialize)]
struct Usage {
    bytes: u64,
    inodes: u64,
}

pub(super) fn usage(session: &Session, id: &LayerId) -> Result {
    let usage = session.store.open()?.usage(id)?;
    let usage = Usage { bytes: usage.bytes, inodes: usage.inodes };
    if session.json {
        return output::json(&usage);
    }
    output::table(&[("bytes", usage.bytes.to_string()), ("inodes", usage.inodes.to_string())])
}
