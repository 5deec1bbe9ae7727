//! The short names of layers: the `link` file of a layer and its symbolic link below `l`.
//!
//! Each tells the other. When one of them is lost, it is made again from the one that is left.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use graphdriver_core::{Error, ErrorKind, HomeLock, LayerId, Result, write_atomic};
use rand::Rng;

use crate::layout::{DIFF, LINK, LINKS, LayerDir, Layout, TEMP_DIRS};
use crate::note_file;
use crate::stores::{Stores, layers_of};

/// Length of the names that are made here, and by the peers.
const LINK_CHARS: usize = 26;

/// The alphabet of RFC 4648's base 32.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The short name of a layer: one path component that needs no escaping in mount options; 26 base 32 digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LinkId(String);

impl LinkId {
    /// A name that no layer has: 130 random bits.
    pub(crate) fn random() -> Self {
        let mut rng = rand::rng();
        let digit = |_| char::from(BASE32[rng.random_range(0..BASE32.len())]);
        Self((0..LINK_CHARS).map(digit).collect())
    }

    /// A name as read from a file; `None` when it is empty or not one plain component.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let plain = !text.is_empty() && text.iter().all(u8::is_ascii_alphanumeric);
        plain.then(|| Self(text.iter().copied().map(char::from).collect()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What `l/<LINK>` points to for the layer `id`.
pub(crate) fn target(id: &LayerId) -> PathBuf {
    Path::new("..").join(id).join(DIFF)
}

/// The layer that a symbolic link with this target stands for; `None` for a target of another form.
pub(crate) fn layer_of_target(target: &Path) -> Option<LayerId> {
    let text = target.to_str()?;
    let id = text.strip_prefix("../")?.strip_suffix("/diff")?;
    id.parse().ok()
}

/// The `link` file of the layer; `None` when it is lost: missing, empty or garbled.
pub(crate) fn read(layer: &LayerDir) -> Result<Option<LinkId>> {
    let path = layer.path().join(LINK);
    match note_file::read(&path) {
        Ok(text) => Ok(LinkId::parse(text.trim_ascii_end())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path, error)),
    }
}

/// The layer's short name: its `link` file, or where that is lost what `l` has for the layer.
pub(crate) fn find(store: &Layout, layer: &LayerDir) -> Result<Option<LinkId>> {
    if let Some(link) = read(layer)? {
        return Ok(Some(link));
    }
    Ok(all(store)?.into_iter().find(|(_, id)| id == layer.id()).map(|(link, _)| link))
}

/// The short name of an existing layer that gets a child. A lost `link` file is written again, with the name that `l` has for the
/// layer, or with a new one when it has none.
///
/// # Errors
/// `LayerUnknown` when the layer is gone meanwhile; `Io` also for a lost file in a store that is not ours to write.
pub(crate) fn ensure(stores: &Stores, layer: &LayerDir) -> Result<LinkId> {
    if let Some(link) = read(layer)? {
        return Ok(link);
    }
    let Some(store) = stores.all().find(|store| store.layer(layer.id()) == *layer) else {
        return Err(Error::layer_unknown("find link of", layer.id()));
    };
    if store.is_foreign() {
        return find(store, layer)?.ok_or_else(|| {
            let detail = "the layer's link file is lost, and its store is not ours to mend";
            Error::new(ErrorKind::Io, "read").path(layer.path().join(LINK)).detail(detail)
        });
    }
    let _lock = HomeLock::exclusive(store.path())?;
    layer.require("find link of")?;
    let link = find(store, layer)?.unwrap_or_else(LinkId::random);
    tracing::warn!(layer = %layer.id(), %link, "the layer's link file is lost; writing it again");
    let path = layer.path();
    let dir = fs::File::open(path).map_err(|error| Error::io("open", path, error))?;
    write_atomic(&dir, LINK, link.as_str().as_bytes(), 0o644).map_err(|error| error.path(path.join(LINK)))?;
    make(store, &link, layer.id())?;
    Ok(link)
}

/// Makes `l/<link>`, unless it is there.
pub(crate) fn make(store: &Layout, link: &LinkId, id: &LayerId) -> Result<()> {
    let path = store.link(link);
    match symlink(target(id), &path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(Error::io("symlink", path, error)),
        _ => Ok(()),
    }
}

/// Removes `l/<link>`; missing is fine.
pub(crate) fn remove(store: &Layout, link: &LinkId) -> Result<()> {
    let path = store.link(link);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("unlink", path, error)),
        _ => Ok(()),
    }
}

/// Removes the links of layers that a killed process had not yet put in place, or had already put out of sight: those whose `link` file
/// lies in a temporary directory, and that lead nowhere. The caller holds the store's lock, so nobody is between the two steps.
pub(crate) fn remove_dangling(store: &Layout) -> Result<()> {
    let temp_dirs = store.path().join(TEMP_DIRS);
    for unfinished in subdirectories(&temp_dirs)? {
        for layer in subdirectories(&unfinished)? {
            let Some(link) = fs::read(layer.join(LINK)).ok().and_then(|text| LinkId::parse(&text)) else {
                continue;
            };
            let path = store.link(&link);
            if fs::symlink_metadata(&path).is_ok() && !path.exists() {
                remove(store, &link)?;
            }
        }
    }
    Ok(())
}

/// The directories in `dir`; none when it is missing or vanishes meanwhile.
fn subdirectories(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read directory", dir, error)),
    };
    let is_dir = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    Ok(entries.flatten().filter(is_dir).map(|entry| entry.path()).collect())
}

/// All links of `l` that have the right form, with their layers.
fn all(store: &Layout) -> Result<Vec<(LinkId, LayerId)>> {
    let links = store.links();
    let entries = fs::read_dir(&links).map_err(|error| Error::io("read directory", &links, error))?;
    let parse = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.ok()?;
        let layer = layer_of_target(&fs::read_link(entry.path()).ok()?)?;
        Some((LinkId::parse(entry.file_name().as_bytes())?, layer))
    };
    Ok(entries.filter_map(parse).collect())
}

/// Finds layers by their short names.
#[derive(Debug)]
pub(crate) struct Links<'a> {
    stores: &'a Stores,
    /// The `link` files of all layers; read when the first link is found lost.
    files: Option<HashMap<LinkId, (&'a Layout, LayerDir)>>,
}

impl<'a> Links<'a> {
    pub(crate) fn new(stores: &'a Stores) -> Self {
        Self { stores, files: None }
    }

    /// The layer called `link`. A lost link is found through the layers' `link` files and made again.
    ///
    /// # Errors
    /// `Io` when no layer is called so.
    pub(crate) fn layer(&mut self, link: &LinkId) -> Result<LayerDir> {
        for store in self.stores.all() {
            let path = store.link(link);
            match fs::read_link(&path) {
                Ok(target) => {
                    let id = layer_of_target(&target).ok_or_else(|| {
                        let detail = format!("the link leads to {target:?}, which is no layer of this store");
                        Error::new(ErrorKind::Io, "find layer").path(&path).detail(detail)
                    })?;
                    return Ok(store.layer(&id));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("readlink", path, error)),
            }
        }
        self.restore(link)
    }

    fn restore(&mut self, link: &LinkId) -> Result<LayerDir> {
        let Some((store, layer)) = self.files()?.get(link).cloned() else {
            let path = self.stores.home().link(link);
            let detail = format!("the link is lost, and no layer's link file says {LINKS}/{link}");
            return Err(Error::new(ErrorKind::Io, "find layer").path(path).detail(detail));
        };
        if !store.is_foreign() {
            // On a read-only home the answer is as good.
            match make(store, link, layer.id()) {
                Ok(()) => tracing::info!(%link, layer = %layer.id(), "made a lost link again"),
                Err(error) => tracing::debug!(%link, error = %error.report(), "a lost link stays lost"),
            }
        }
        Ok(layer)
    }

    fn files(&mut self) -> Result<&HashMap<LinkId, (&'a Layout, LayerDir)>> {
        if self.files.is_none() {
            let mut files = HashMap::new();
            for store in self.stores.all() {
                for layer in layers_of(store)? {
                    if let Some(link) = read(&layer)? {
                        files.entry(link).or_insert((store, layer));
                    }
                }
            }
            self.files = Some(files);
        }
        Ok(self.files.get_or_insert_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_names_are_26_base32_digits_and_differ() {
        let (one, other) = (LinkId::random(), LinkId::random());
        assert_ne!(one, other);
        assert_eq!(one.as_str().len(), 26);
        assert!(one.as_str().bytes().all(|byte| BASE32.contains(&byte)));
        assert_eq!(LinkId::parse(one.as_str().as_bytes()), Some(one));
    }

    #[test]
    fn names_that_would_reach_elsewhere_are_none() {
        for text in ["", ".", "..", "a/b", "A:B", "A\n", "A,B", "A\\B", "\u{e9}"] {
            assert_eq!(LinkId::parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn targets() {
        let id: LayerId = "abc".parse().unwrap();
        assert_eq!(target(&id), Path::new("../abc/diff"));
        assert_eq!(layer_of_target(&target(&id)), Some(id));
        for wrong in [
            "abc/diff",
            "../abc",
            "../abc/diff1",
            "../../abc/diff",
            "/home/abc/diff",
            "../l/diff",
            "..//diff",
        ] {
            assert_eq!(layer_of_target(Path::new(wrong)), None, "{wrong}");
        }
    }
}
