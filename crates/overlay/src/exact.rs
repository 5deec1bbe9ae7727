//! The archive that a layer was filled from, given back byte for byte.
//!
//! Filling a layer keeps a record in the format of tar-split: where containers/storage looks for it when the layer lies in one of its stores, beside the layer otherwise. Records that
//! containers/storage wrote are used, too; which archive they are of is in its list of layers.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graphdriver_archive::tar_split::{LayerLook, Record, Recorded, annotate, seal};
use graphdriver_archive::{self as archive, ApplyOptions, ArchiveDigest, RootDir};
use graphdriver_core::{Applied, Error, ErrorKind, IdMaps, LayerApplyOptions, LayerDiff, LayerId, Result};
use serde::Deserialize;

use crate::fill;
use crate::hold::Hold;
use crate::home::Home;
use crate::layout::{COMPOSEFS_DATA, LayerDir, TAR_SPLIT};
use crate::lowers;

/// The directory of containers/storage beside a store, its list of layers, and the end of its records' names.
const GO_LAYERS: &str = "overlay-layers";
const GO_LIST: &str = "layers.json";
const GO_SUFFIX: &str = ".tar-split.gz";
/// The end of the name of a record that is not whole yet.
const NEW_SUFFIX: &str = ".new";
/// Largest list that is read; one of this size has some hundred thousand layers.
const MAX_LIST_BYTES: u64 = 256 << 20;
/// As containers/storage has it: a record tells the names of files that not everybody may see.
const MODE: u32 = 0o600;

/// The change set of `id` against `base` as the archive that made it; `None` where that is not known, or the layer is not as it was any more.
pub(crate) fn diff(
    home: &Arc<Home>,
    id: &LayerId,
    base: Option<&LayerId>,
    id_maps: &IdMaps,
) -> Result<Option<LayerDiff>> {
    let layer = home.stores.require("diff", id)?;
    let Some(record) = open(&layer)? else { return Ok(None) };
    let parent = lowers::parent(&home.stores, &layer)?;
    if parent.as_ref().map(LayerDir::id) != base || layer.diffs().len() > 1 {
        return Ok(None);
    }
    let hold = Hold::take(home, "diff", id)?;
    let exact = assemble(home, &layer, record, id_maps);
    match exact {
        Ok(assembly) => Ok(assembly.map(|assembly| LayerDiff::new(assembly).keeping(hold))),
        // Damaged, or of something that is no archive to us; the layer is still there to be looked at.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidArchive | ErrorKind::PathEscape) => {
            tracing::warn!(layer = %id, error = %error.report(), "the record of the layer's archive is of no use");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A record that is complete, at a place where nobody looks for it.
#[derive(Debug)]
pub(crate) struct Kept {
    file: File,
    path: PathBuf,
    /// The layer's directory.
    root: RootDir,
}

impl Kept {
    /// Unpacks `tar` into `root`, which is empty, and keeps its record as `path`, which is not there.
    ///
    /// # Errors
    /// As `archive::apply`.
    pub(crate) fn apply(
        root: &RootDir,
        tar: &mut dyn Read,
        options: &LayerApplyOptions,
        unpacking: &ApplyOptions,
        path: PathBuf,
    ) -> Result<(Applied, Option<Self>)> {
        if options.skip_record {
            return Ok((archive::apply(root, tar, unpacking)?, None));
        }
        let file = new_record(&path)?;
        let written = file.try_clone().map_err(|error| Error::io("dup", &path, error))?;
        let (applied, recorded) = archive::apply_recorded(root, tar, unpacking, written)?;
        if let Recorded::NotExact(reason) = recorded {
            tracing::debug!(%reason, "no record is kept of the archive, its bytes cannot be had again");
            fs::remove_file(&path).map_err(|error| Error::io("unlink", &path, error))?;
            return Ok((applied, None));
        }
        let kept = Self { file, path, root: root.clone() };
        kept.seal()?;
        Ok((applied, Some(kept)))
    }

    /// Keeps, as `path`, a record that came with the layer in `root` from elsewhere.
    ///
    /// # Errors
    /// `Io`, `NoSpace`. What is no record is left out.
    pub(crate) fn adopt(
        root: &RootDir,
        record: &File,
        archive: ArchiveDigest,
        id_maps: &IdMaps,
        path: PathBuf,
    ) -> Result<Option<Self>> {
        let file = new_record(&path)?;
        let annotated = annotate(record, archive, id_maps, &file);
        // Who gets the differ's output reads it, too.
        let mut record = record;
        record.rewind().map_err(|error| Error::io("lseek", &path, error))?;
        match annotated {
            Ok(()) => {}
            Err(error) if error.kind() == archive::ErrorKind::InvalidArchive => {
                tracing::warn!(%error, "the record that came with a layer is of no use");
                fs::remove_file(&path).map_err(|error| Error::io("unlink", &path, error))?;
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        }
        let kept = Self { file, path, root: root.clone() };
        kept.seal()?;
        Ok(Some(kept))
    }

    /// Gives the record its place for the layer `id` of `store`, of which `layer` is or becomes the directory.
    pub(crate) fn place(&mut self, store: &Path, layer: &Path, id: &LayerId) -> Result<()> {
        let place = place(store, layer, id);
        match fs::rename(&self.path, &place) {
            // The home is a mount of its own, as containers/storage makes it, and its list of layers is outside.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => self.copy_to(&place)?,
            renamed => renamed.map_err(|error| Error::io("rename", &place, error))?,
        }
        self.path = place;
        Ok(())
    }

    /// What the layer was filled with is kept in another form, in the directory `root`.
    ///
    /// # Errors
    /// `Io`, `NoSpace`.
    pub(crate) fn moved_to(self, root: RootDir) -> Result<Self> {
        let kept = Self { root, ..self };
        kept.seal()?;
        Ok(kept)
    }

    /// The layer's directory has been renamed: that was no change of the layer.
    pub(crate) fn renew(&self) {
        if let Err(error) = seal(&self.file, &self.root) {
            tracing::debug!(path = ?self.path, %error, "the layer will be compared with its archive");
        }
    }

    fn copy_to(&mut self, place: &Path) -> Result<()> {
        let new = new_name(place);
        // Of a process that was killed here.
        remove_if_there(&new).map_err(|error| Error::io("unlink", &new, error))?;
        let mut file = new_record(&new)?;
        let copied = self.file.rewind().and_then(|()| io::copy(&mut self.file, &mut file));
        copied.map_err(|error| Error::io("copy", &new, error))?;
        let copy = Self { file, path: new, root: self.root.clone() };
        let placed = copy
            .seal()
            .and_then(|()| fs::rename(&copy.path, place).map_err(|error| Error::io("rename", place, error)));
        if placed.is_err() {
            let _ = fs::remove_file(&copy.path);
        }
        placed?;
        *self = copy;
        Ok(())
    }

    /// It is as safe from a power cut as the layer's contents (option `sync`): one that is not whole is noticed.
    fn seal(&self) -> Result<()> {
        Ok(seal(&self.file, &self.root)?)
    }
}

fn new_record(path: &Path) -> Result<File> {
    let opened = File::options().read(true).write(true).create_new(true).mode(MODE).open(path);
    opened.map_err(|error| Error::io("open", path, error))
}

fn new_name(place: &Path) -> PathBuf {
    let mut name = place.as_os_str().to_owned();
    name.push(NEW_SUFFIX);
    PathBuf::from(name)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Removes the record of a layer that is gone, where it does not go with the layer's directory.
pub(crate) fn remove(store: &Path, layer: &LayerDir) {
    let place = place(store, layer.path(), layer.id());
    let _ = fs::remove_file(new_name(&place));
    match fs::remove_file(&place) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            tracing::warn!(path = ?place, %error, "the record of a removed layer's archive stays");
        }
        _ => {}
    }
}

fn assemble(
    home: &Home,
    layer: &LayerDir,
    record: Record,
    id_maps: &IdMaps,
) -> Result<Option<archive::tar_split::Assembly>> {
    let id = layer.id();
    if record.was_applied_with(id_maps) == Some(false) {
        tracing::debug!(layer = %id, "the layer's archive was unpacked with other id maps");
        return Ok(None);
    }
    let Some(archive) = archive_of(layer, &record)? else { return Ok(None) };
    if layer.is_image() {
        return assemble_image(home, layer, record, archive);
    }
    let root = RootDir::open(layer.diff())?;
    let lowers = fill::lowers_of(&home.stores, layer)?;
    let unpacking = fill::apply_options(home, &LayerApplyOptions::default(), Vec::new())?;
    let look = LayerLook {
        lowers: &lowers,
        whiteouts: unpacking.whiteouts,
        id_maps,
        in_user_namespace: unpacking.in_user_namespace,
    };
    if !record.matches(&root, &look)? {
        tracing::debug!(layer = %id, "the layer was changed since its archive was unpacked");
        return Ok(None);
    }
    Ok(Some(record.assemble(&root, archive)?))
}

/// Nobody changes a layer that is kept as an image but by putting others in the place of its files.
fn assemble_image(
    home: &Home,
    layer: &LayerDir,
    record: Record,
    archive: ArchiveDigest,
) -> Result<Option<archive::tar_split::Assembly>> {
    let objects = RootDir::open(layer.diff())?;
    let image = RootDir::open(layer.path().join(COMPOSEFS_DATA))?;
    if !record.is_untouched(&objects, &image)? {
        tracing::debug!(layer = %layer.id(), "the layer's image or its contents were changed since it was made");
        return Ok(None);
    }
    let stack = home.stack(fill::open_all(&layer.parts())?)?.with_data_only(vec![objects]);
    Ok(Some(record.assemble_from(&stack, archive)?))
}

/// Which archive must come out; `None` when that is not known.
fn archive_of(layer: &LayerDir, record: &Record) -> Result<Option<ArchiveDigest>> {
    if let Some(archive) = record.archive() {
        return Ok(Some(archive));
    }
    let Some(dir) = layer.path().parent().and_then(go_layers) else { return Ok(None) };
    let Some(archive) = listed(&dir.join(GO_LIST), layer.id())? else { return Ok(None) };
    // Go's record of an archive with a sparse file is of another archive.
    Ok((record.assembled_bytes()? == archive.bytes).then_some(archive))
}

fn open(layer: &LayerDir) -> Result<Option<Record>> {
    let Some(store) = layer.path().parent() else { return Ok(None) };
    let place = place(store, layer.path(), layer.id());
    let file = match File::open(&place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|error| Error::io("open", &place, error))?,
    };
    match Record::open(file) {
        Ok(record) => Ok(Some(record)),
        Err(error) if error.kind() == archive::ErrorKind::InvalidArchive => {
            tracing::warn!(path = ?place, %error, "the record of a layer's archive is of no use");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn place(store: &Path, layer: &Path, id: &LayerId) -> PathBuf {
    match go_layers(store) {
        Some(dir) => dir.join(format!("{id}{GO_SUFFIX}")),
        None => layer.join(TAR_SPLIT),
    }
}

/// Where containers/storage keeps its records of this store's layers, if it has the store.
fn go_layers(store: &Path) -> Option<PathBuf> {
    let dir = store.parent()?.join(GO_LAYERS);
    dir.join(GO_LIST).is_file().then_some(dir)
}

/// What containers/storage lists about a layer.
#[derive(Deserialize)]
struct Listed {
    id: String,
    #[serde(rename = "diff-digest")]
    digest: Option<String>,
    #[serde(rename = "diff-size")]
    bytes: Option<i64>,
}

fn listed(list: &Path, id: &LayerId) -> Result<Option<ArchiveDigest>> {
    let file = File::open(list).map_err(|error| Error::io("open", list, error))?;
    let mut text = Vec::new();
    let read = file.take(MAX_LIST_BYTES).read_to_end(&mut text);
    read.map_err(|error| Error::io("read", list, error))?;
    let layers: Vec<Listed> = match serde_json::from_slice(&text) {
        Ok(layers) => layers,
        Err(error) => {
            tracing::warn!(path = ?list, %error, "cannot understand the list of layers");
            return Ok(None);
        }
    };
    Ok(layers.into_iter().find(|layer| layer.id == id.as_str()).and_then(Listed::archive))
}

impl Listed {
    fn archive(self) -> Option<ArchiveDigest> {
        let mut sha256 = [0; 32];
        hex::decode_to_slice(self.digest?.strip_prefix("sha256:")?, &mut sha256).ok()?;
        Some(ArchiveDigest { sha256, bytes: u64::try_from(self.bytes?).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_in_the_list_of_containers_storage() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let list = format!(
            r#"[{{"id":"a","names":["n"]}},
                {{"id":"b","parent":"a","diff-digest":"sha256:{digest}","diff-size":77,"compression":2}},
                {{"id":"c","diff-digest":"sha512:{digest}","diff-size":77}},
                {{"id":"d","diff-digest":"sha256:{digest}","diff-size":-1}}]"#
        );
        fs::write(file.path(), list).unwrap();
        let found = |id: &str| listed(file.path(), &id.parse().unwrap()).unwrap();
        let archive = found("b").unwrap();
        assert_eq!((archive.sha256[..2].to_vec(), archive.bytes), (vec![0xe3, 0xb0], 77));
        for id in ["a", "c", "d", "e"] {
            assert_eq!(found(id), None, "{id}");
        }
        fs::write(file.path(), "{").unwrap();
        assert_eq!(found("b"), None);
    }
}
