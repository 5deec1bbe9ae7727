//! What lies below a layer: its `lower` file, and the directories that it stands for.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use graphdriver_core::{Error, ErrorKind, LayerId, Result};
use nix::errno::Errno;

use crate::layout::{DIFF, LINKS, LOWER, LayerDir};
use crate::link::{LinkId, Links};
use crate::mount::Part;
use crate::note_file;
use crate::stores::Stores;

/// As many layers as the kernel stacks in one mount (`OVL_MAX_STACK`), the upper directory not counted.
pub(crate) const MAX_LOWERS: usize = 500;

/// A layer as another one's `lower` file names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LowerEntry {
    /// `l/<LINK>`.
    Link(LinkId),
    /// `<id>/diff`, as newer versions of containers/storage write it.
    Layer(LayerId),
}

impl LowerEntry {
    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (dir, name) = text.split_once('/')?;
        match (dir, name) {
            (LINKS, link) => LinkId::parse(link.as_bytes()).map(Self::Link),
            (id, DIFF) => id.parse().ok().map(Self::Layer),
            _ => None,
        }
    }

    /// The short name, where the layer is named by it.
    pub(crate) fn as_link(&self) -> Option<&LinkId> {
        match self {
            Self::Link(link) => Some(link),
            Self::Layer(_) => None,
        }
    }

    /// Whether this is the layer `id` with the short name `link`.
    pub(crate) fn names(&self, id: &LayerId, link: Option<&LinkId>) -> bool {
        match self {
            Self::Link(named) => Some(named) == link,
            Self::Layer(named) => named == id,
        }
    }

    fn layer(&self, stores: &Stores, links: &mut Links<'_>) -> Result<LayerDir> {
        match self {
            Self::Link(link) => links.layer(link),
            // One that is missing is told by its path in the home.
            Self::Layer(id) => Ok(stores.find(id)?.unwrap_or_else(|| stores.home().layer(id))),
        }
    }
}

impl fmt::Display for LowerEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(link) => write!(f, "{LINKS}/{link}"),
            Self::Layer(id) => write!(f, "{id}/{DIFF}"),
        }
    }
}

/// One layer below another, and what it contributes to a mount of that one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lower {
    pub(crate) layer: LayerDir,
    /// Uppermost first; more than one where owners have been rewritten.
    pub(crate) parts: Vec<Part<'static>>,
    /// The contents of the files of an image.
    pub(crate) objects: Option<PathBuf>,
}

/// The entries of the layer's `lower` file, uppermost first; none for a base layer.
///
/// # Errors
/// `Io` when the file cannot be read or understood.
pub(crate) fn read(layer: &LayerDir) -> Result<Vec<LowerEntry>> {
    let (path, text) = contents(layer)?;
    parse(&text).map_err(|entry| malformed(&path, &entry))
}

/// The first entry of the layer's `lower` file, its direct parent; `None` for a base layer.
///
/// # Errors
/// As [`read`].
pub(crate) fn first(layer: &LayerDir) -> Result<Option<LowerEntry>> {
    let (path, text) = contents(layer)?;
    let first = text.split(|byte| *byte == b':').next().unwrap_or_default();
    let entries = parse(first).map_err(|entry| malformed(&path, &entry))?;
    Ok(entries.into_iter().next())
}

/// The contents of a `lower` file for a child of `parent`, and how many layers it names.
pub(crate) fn for_child(parent: &LayerDir, link: &LinkId) -> Result<(String, usize)> {
    let below = read(parent)?;
    let mut text = format!("{LINKS}/{link}");
    for entry in &below {
        text.push(':');
        text.push_str(&entry.to_string());
    }
    Ok((text, below.len() + 1))
}

/// The direct parent of the layer; `None` for a base layer.
pub(crate) fn parent(stores: &Stores, layer: &LayerDir) -> Result<Option<LayerDir>> {
    first(layer)?.map(|entry| entry.layer(stores, &mut Links::new(stores))).transpose()
}

/// Every layer below, uppermost first.
///
/// # Errors
/// `Io` naming the layer that is missing.
pub(crate) fn resolve(stores: &Stores, layer: &LayerDir) -> Result<Vec<Lower>> {
    let mut links = Links::new(stores);
    read(layer)?.iter().map(|entry| open(stores, entry.layer(stores, &mut links)?)).collect()
}

/// What `lowers` contribute to a mount, uppermost first.
pub(crate) fn parts(lowers: &[Lower]) -> impl Iterator<Item = &Part<'static>> {
    lowers.iter().flat_map(|lower| &lower.parts)
}

/// The contents of the files of images among `lowers`, uppermost first.
pub(crate) fn objects(lowers: &[Lower]) -> impl Iterator<Item = &Path> {
    lowers.iter().filter_map(|lower| lower.objects.as_deref())
}

fn open(stores: &Stores, layer: LayerDir) -> Result<Lower> {
    stores.require_inside(&layer)?;
    let diff = layer.diff();
    match fs::metadata(&diff) {
        Ok(metadata) if metadata.is_dir() => {
            Ok(Lower { parts: layer.parts(), objects: layer.objects(), layer })
        }
        Ok(_) => Err(Error::syscall("open lower layer", diff, Errno::ENOTDIR)),
        Err(error) => Err(Error::io("open lower layer", diff, error)),
    }
}

fn contents(layer: &LayerDir) -> Result<(PathBuf, Vec<u8>)> {
    let path = layer.path().join(LOWER);
    match note_file::read(&path) {
        Ok(text) => Ok((path, text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((path, Vec::new())),
        Err(error) => Err(Error::io("read", path, error)),
    }
}

fn parse(text: &[u8]) -> Result<Vec<LowerEntry>, String> {
    let text = text.trim_ascii_end();
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let entry =
        |entry: &[u8]| LowerEntry::parse(entry).ok_or_else(|| String::from_utf8_lossy(entry).into_owned());
    text.split(|byte| *byte == b':').map(entry).collect()
}

fn malformed(path: &Path, entry: &str) -> Error {
    let detail = format!("{entry:?} is neither {LINKS}/LINK nor ID/{DIFF}");
    Error::new(ErrorKind::Io, "read").path(path).detail(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(text: &str) -> LowerEntry {
        LowerEntry::Link(LinkId::parse(text.as_bytes()).unwrap())
    }

    fn layer(text: &str) -> LowerEntry {
        LowerEntry::Layer(text.parse().unwrap())
    }

    #[test]
    fn both_forms_are_read() {
        let table = [
            ("", vec![]),
            ("\n", vec![]),
            ("l/ABC", vec![link("ABC")]),
            ("l/ABC:l/DEF", vec![link("ABC"), link("DEF")]),
            ("abc-1/diff:l/DEF\n", vec![layer("abc-1"), link("DEF")]),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text.as_bytes()).unwrap(), expected, "{text:?}");
        }
    }

    #[test]
    fn anything_else_is_refused_and_named() {
        for (text, named) in [
            (":", ""),
            ("l/ABC:", ""),
            ("l/", "l/"),
            ("l/../x", "l/../x"),
            ("l/ABC:../abc/diff", "../abc/diff"),
            ("/abc/diff", "/abc/diff"),
            ("abc/diff1", "abc/diff1"),
            ("abc/x/diff", "abc/x/diff"),
            ("abc", "abc"),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err(), named, "{text:?}");
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        for entry in [link("ABC"), layer("abc")] {
            assert_eq!(parse(entry.to_string().as_bytes()).unwrap(), [entry]);
        }
    }
}
