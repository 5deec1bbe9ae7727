//! One layer on its way, and the proof that it arrived.

use std::io;

use graphdriver::archive::{Export, ExportOptions, RootDir, with_parents};
use graphdriver::{
    ChangeKind, CreateOptions, Error, ErrorKind, Graph, IdMaps, LayerApplyOptions, LayerDiff, LayerId,
    MountOptions, naive,
};
use serde::Serialize;

use super::{Migration, Outcome};
use crate::digest::{Digest, HashingReader};
use crate::failure::{Failure, Result};

/// How it is known that a layer is what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Proof {
    /// Both drivers give the same diff, byte for byte.
    Diff(Digest),
    /// Both layers show the same tree: the diffs are two archives of it, because the one driver keeps records of archives and the other does not, or because they differ in what they call a change.
    Tree(Digest),
}

/// Makes the layer unless it is there, and verifies it.
///
/// # Errors
/// `Interrupted`; `LayerExists` for one that is there and is not what it should be: a layer appears complete, so that somebody made or edited it; as reading the one layer and filling the other; `Io` when the two are not the same.
pub(super) fn make(migration: &Migration<'_>, id: &LayerId, parent: Option<&LayerId>) -> Result<Outcome> {
    if migration.to.exists(id)? {
        let proof = verify(migration, id, parent).map_err(|error| already_there(error, id))?;
        return Ok(Outcome::Present { proof });
    }
    let moved = fill(migration, id, parent);
    match (moved, migration.interrupt.received()) {
        (Ok(()), _) => {}
        (Err(_), Some(signal)) => return Err(Failure::Interrupted(signal)),
        (Err(error), None) => return Err(error.into()),
    }
    match verify(migration, id, parent) {
        Ok(proof) => Ok(Outcome::Moved { proof }),
        Err(error) => {
            // Better none than one that is not what its id says.
            migration.to.remove(id)?;
            Err(error.into())
        }
    }
}

fn already_there(error: Error, id: &LayerId) -> Error {
    Error::new(ErrorKind::LayerExists, "migrate")
        .layer(id)
        .detail("the destination has another layer of this id, which stays as it is; remove it there to have it made from the source")
        .source(error)
}

fn fill(migration: &Migration<'_>, id: &LayerId, parent: Option<&LayerId>) -> Result<(), Error> {
    let mut diff = source(migration, id, parent)?;
    let create = CreateOptions { parent: parent.cloned(), ..CreateOptions::default() };
    let mut tar = migration.interrupt.watching(&mut diff);
    migration.to.create_filled(id, &create, &mut tar, &LayerApplyOptions::default())?;
    diff.finish()
}

/// The archive to fill the layer from. One that the source gives back byte for byte may lack directories, whose times a destination that keeps no record of it could not know: that one gets all that differs.
fn source(migration: &Migration<'_>, id: &LayerId, parent: Option<&LayerId>) -> Result<LayerDiff, Error> {
    let (from, to) = (migration.from, migration.to);
    if to.capabilities().exact_diffs || !from.capabilities().exact_diffs {
        return from.diff(id, parent, &IdMaps::default());
    }
    // What the driver knows to be replaced may look the same to who compares sizes and times.
    let known = from.changes(id, parent)?.into_iter().filter(|change| change.kind != ChangeKind::Delete);
    let mut changes = naive::changes(from, id, parent)?;
    changes.extend(known);
    let mount = from.mount(id, &MountOptions::read_only())?;
    let root = RootDir::open(mount.path())?;
    let export = Export::changes(&root, with_parents(changes), ExportOptions::default())?;
    Ok(LayerDiff::new(export).holding(mount))
}

/// Compares the two layers.
///
/// # Errors
/// `Io` when they differ, or cannot be read.
pub(super) fn verify(
    migration: &Migration<'_>,
    id: &LayerId,
    parent: Option<&LayerId>,
) -> Result<Proof, Error> {
    let (from, to) = (migration.from, migration.to);
    let differs = |what: &str| {
        Err(Error::new(ErrorKind::Io, "verify").layer(id).detail(format!(
            "{} and {} differ in {what}",
            from.name(),
            to.name()
        )))
    };
    if to.parent(id)?.as_ref() != parent {
        return differs("the layer's parent");
    }
    let expected = digest(from.diff(id, parent, &IdMaps::default())?)?;
    if digest(to.diff(id, parent, &IdMaps::default())?)? == expected {
        return Ok(Proof::Diff(expected));
    }
    let expected = digest(tree(from, id)?)?;
    if digest(tree(to, id)?)? == expected {
        return Ok(Proof::Tree(expected));
    }
    differs("what the layer shows")
}

/// All that the layer shows, by a mount where the driver can mount here, since the driver's own answer may be the archive that the layer was made from.
fn tree(graph: &Graph, id: &LayerId) -> Result<LayerDiff, Error> {
    match naive::diff(graph, id, None, &IdMaps::default()) {
        Err(error) if error.kind().is_unsupported() => graph.diff(id, None, &IdMaps::default()),
        tree => tree,
    }
}

fn digest(mut diff: LayerDiff) -> Result<Digest, Error> {
    let mut reader = HashingReader::new(&mut diff);
    io::copy(&mut reader, &mut io::sink()).map_err(|error| {
        error.downcast().unwrap_or_else(|error| Error::new(ErrorKind::Io, "read diff").source(error))
    })?;
    let (digest, _) = reader.finish();
    diff.finish()?;
    Ok(digest)
}
