//! Layers from before Docker 0.7, when there were no drivers.
//!
//! ```text
//! <root>/graph/<id>/layer/          what an image layer adds, in AUFS's form
//! <root>/graph/<id>/json            {"id": ..., "parent": ...}
//! <root>/containers/<id>/rw/        what a container has written
//! <root>/containers/<id>/config.json  {"ID": ..., "Image": ...}
//! <root>/repositories               the names of images
//! ```

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graphdriver_core::trees::list_ids;
use graphdriver_core::{CreateOptions, Error, ErrorKind, LayerId, Result};
use serde::Deserialize;

use crate::draft::{Draft, make_layer};
use crate::home::Home;

/// What was moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Migrated {
    /// Layers of images, parents first.
    pub images: Vec<LayerId>,
    /// Layers that containers have written to.
    pub containers: Vec<LayerId>,
}

/// What is known of an image or a container.
#[derive(Debug, Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    parent: Option<String>,
    #[serde(default, rename = "Image")]
    image: Option<String>,
}

/// Moves what is below `path`, which may have been begun before.
///
/// # Errors
/// As [`Aufs::migrate`](crate::Aufs::migrate).
pub(crate) fn migrate(
    home: &Arc<Home>,
    path: &Path,
    set_up_init: &mut dyn FnMut(&Path) -> Result<()>,
) -> Result<Migrated> {
    let graph = path.join("graph");
    let mut migrated = Migrated::default();
    if !graph.is_dir() {
        return Ok(migrated);
    }
    let (names, moved) = (path.join("repositories"), path.join("repositories-aufs"));
    if exists(&names)? && !exists(&moved)? {
        relocate(&names, &moved)?;
    }
    for id in directories(&graph)? {
        migrate_image(home, &graph, &id, &mut migrated.images)?;
    }
    let containers = path.join("containers");
    if containers.is_dir() {
        for id in directories(&containers)? {
            if migrate_container(home, &containers, &id, set_up_init)? {
                migrated.containers.push(id);
            }
        }
    }
    Ok(migrated)
}

/// Moves the image and those below it that are not moved yet.
fn migrate_image(home: &Home, graph: &Path, id: &LayerId, moved: &mut Vec<LayerId>) -> Result<()> {
    let mut chain = Vec::new();
    let mut seen = HashSet::new();
    let mut next = Some(id.clone());
    while let Some(id) = next.take() {
        // Its branch has gone already when a migration was interrupted.
        let is_image = exists(&graph.join(&id).join("layer"))? || exists(&home.diff(&id))?;
        if home.exists(&id)? || !is_image {
            if chain.is_empty() || home.exists(&id)? {
                break;
            }
            return Err(Error::parent_unknown("migrate", &id).path(graph.join(&id)));
        }
        if !seen.insert(id.clone()) {
            return Err(Error::new(ErrorKind::Io, "migrate")
                .path(graph.join(&id))
                .layer(&id)
                .detail("it is below itself"));
        }
        let metadata = read(&graph.join(&id).join("json"))?;
        let parent = parse_id(metadata.parent, &graph.join(&id))?;
        next.clone_from(&parent);
        chain.push((id, parent));
    }
    for (id, parent) in chain.into_iter().rev() {
        let _lock = home.lock()?;
        if home.exists(&id)? {
            continue;
        }
        adopt(home, &graph.join(&id).join("layer"), &id, parent.as_ref())?;
        moved.push(id);
    }
    Ok(())
}

/// Moves what the container has written, onto a layer of its own in which the container is set up. False where there is nothing to move.
fn migrate_container(
    home: &Arc<Home>,
    containers: &Path,
    id: &LayerId,
    set_up_init: &mut dyn FnMut(&Path) -> Result<()>,
) -> Result<bool> {
    let dir = containers.join(id);
    let written = dir.join("rw");
    if home.exists(id)? || !(exists(&written)? || exists(&home.diff(id))?) {
        return Ok(false);
    }
    let image = parse_id(read(&dir.join("config.json"))?.image, &dir)?;
    let init: LayerId = format!("{id}-init").parse()?;
    if !home.exists(&init)? {
        let options = CreateOptions { parent: image, ..CreateOptions::default() };
        Draft::new(home, &options)?.publish(&init)?;
    }
    // Again, when it was interrupted.
    set_up_init(&home.diff(&init))?;
    let _lock = home.lock()?;
    adopt(home, &written, id, Some(&init))?;
    Ok(true)
}

/// Makes the directory the layer's branch, and then a layer of it. The home is locked.
fn adopt(home: &Home, from: &Path, id: &LayerId, parent: Option<&LayerId>) -> Result<()> {
    let ancestors = match parent {
        Some(parent) => home.ancestors("migrate", parent)?,
        None => Vec::new(),
    };
    let branch = home.diff(id);
    if !exists(&branch)? {
        relocate(from, &branch)?;
    }
    make_layer(home, id, parent, &ancestors)
}

/// Moves by renaming; where that is impossible, a symbolic link stands for it.
fn relocate(from: &Path, to: &Path) -> Result<()> {
    let Err(renaming) = fs::rename(from, to) else { return Ok(()) };
    symlink(from, to).map_err(|linking| {
        let detail = format!(
            "unable to relocate {} to {}: rename: {renaming}; symlink: {linking}",
            from.display(),
            to.display()
        );
        Error::io("rename", from, renaming).detail(detail)
    })
}

fn read(path: &Path) -> Result<Metadata> {
    let text = fs::read(path).map_err(|error| Error::io("read", path, error))?;
    serde_json::from_slice(&text).map_err(|error| {
        Error::new(ErrorKind::Io, "read")
            .path(path)
            .detail(format!("it is no description of a layer: {error}"))
    })
}

/// Nothing for an empty one, which is how Go writes none.
fn parse_id(text: Option<String>, path: &Path) -> Result<Option<LayerId>> {
    match text.filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => match text.parse() {
            Ok(id) => Ok(Some(id)),
            Err(error) => Err(Error::new(ErrorKind::Io, "migrate")
                .path(path)
                .detail(format!("{text:?} names no layer"))
                .source(error)),
        },
    }
}

fn directories(path: &Path) -> Result<Vec<LayerId>> {
    let mut found: Vec<LayerId> =
        list_ids(path)?.into_iter().filter(|(_, kind)| kind.is_dir()).map(|(id, _)| id).collect();
    found.sort_unstable();
    Ok(found)
}

fn exists(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("stat", PathBuf::from(path), error)),
    }
}
