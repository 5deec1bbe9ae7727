//! Where things are, and which layers there are.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use graphdriver_archive::CopyMethod;
use graphdriver_core::trees::{
    LayersDir, in_user_namespace, list_ids, make_dirs, overrides_modes, set_mode, unless_read_only,
};
use graphdriver_core::{
    DriverHome, Error, FsMagic, HomeLock, LayerId, LayerQuotas, RefCounter, Result, TempDirs, fs_magic,
    write_atomic,
};
use graphdriver_sys::clone_file;

use crate::note::ParentNote;
use crate::options::{VfsOptions, VfsTuning};

/// In the run home: who uses which layer.
const REFERENCES: &str = ".references";

/// An opened home.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    pub(crate) layers: LayersDir,
    notes: PathBuf,
    pub(crate) temp_dirs: TempDirs,
    pub(crate) references: RefCounter,
    pub(crate) quotas: LayerQuotas,
    pub(crate) options: VfsOptions,
    pub(crate) copy: CopyMethod,
    pub(crate) has_reflinks: bool,
    pub(crate) in_user_namespace: bool,
    /// Whether this process may write to what its mode closes.
    pub(crate) overrides_modes: bool,
    pub(crate) backing: FsMagic,
}

impl Home {
    pub(crate) fn open(place: &DriverHome, tuning: VfsTuning) -> Result<Self> {
        let options = VfsOptions::parse(place.options())?;
        let path = place.home().to_owned();
        let (layers, notes) = (path.join("dir"), path.join("parents"));
        LayerQuotas::probe(place.nearest_dir(), options.quota)?;
        make_dirs(&path, 0o755)?;
        make_dirs(&layers, 0o700)?;
        // A home of the Go driver on a read-only file system has none, and gets none.
        make_dirs(&notes, 0o700).or_else(unless_read_only)?;
        let quotas = LayerQuotas::open(&path, &layers, options.quota)?;
        let temp_dirs = TempDirs::open(&path)?;
        Ok(Self {
            has_reflinks: tuning.copy == CopyMethod::Auto
                && probe_reflinks(&temp_dirs).or_else(unless_read_only)?,
            temp_dirs,
            references: RefCounter::without_mounts(place.run_home().join(REFERENCES))?,
            quotas,
            options,
            copy: tuning.copy,
            in_user_namespace: in_user_namespace()?,
            overrides_modes: overrides_modes()?,
            backing: fs_magic(&path)?,
            path,
            layers: LayersDir::new(layers),
            notes,
        })
    }

    /// The right to change which layers there are.
    pub(crate) fn lock(&self) -> Result<HomeLock> {
        HomeLock::exclusive(&self.path)
    }

    /// What is known of the layer's making; nothing, where another program made it.
    pub(crate) fn note(&self, id: &LayerId) -> Result<Option<ParentNote>> {
        let path = self.notes.join(id);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|error| Error::io("read", &path, error))?,
        };
        let note = ParentNote::parse(&text);
        if note.is_none() {
            tracing::warn!(?path, "not a note of a parent; the layer counts as one without");
        }
        Ok(note)
    }

    /// Replaces what is known of the layer's making.
    pub(crate) fn set_note(&self, id: &LayerId, note: Option<&ParentNote>) -> Result<()> {
        match note {
            Some(note) => {
                make_dirs(&self.notes, 0o700)?;
                let dir = File::open(&self.notes).map_err(|error| Error::io("open", &self.notes, error))?;
                write_atomic(&dir, id.as_str(), note.to_text().as_bytes(), 0o600)
            }
            None => self.remove_note(id),
        }
    }

    pub(crate) fn remove_note(&self, id: &LayerId) -> Result<()> {
        let path = self.notes.join(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("unlink", path, error)),
            _ => Ok(()),
        }
    }

    /// Removes what killed processes left, and what is known of layers that are gone; the first failure is told, all else is removed.
    pub(crate) fn clean_up(&self) -> Result<()> {
        let recovered = self.temp_dirs.recover();
        recovered.and(self.remove_stray_notes()).and(self.forget_killed())
    }

    /// Removes notes of layers that another program has removed, which would be wrong about a new layer of the same name.
    pub(crate) fn remove_stray_notes(&self) -> Result<()> {
        let Some(_lock) = self.lock().map(Some).or_else(unless_read_only)? else { return Ok(()) };
        for (id, _) in list_ids(&self.notes)? {
            if !self.layers.exists(&id)? {
                self.remove_note(&id)?;
            }
        }
        Ok(())
    }

    /// Lets `rename` move the directory `path` and tell where it is then. An ordinary user must be allowed to write to a directory that changes its parent, since that changes
    /// `..` in it; a layer's root need not be writable.
    pub(crate) fn relocate(&self, path: &Path, rename: impl FnOnce() -> Result<PathBuf>) -> Result<()> {
        if self.overrides_modes {
            return rename().map(drop);
        }
        let metadata = fs::symlink_metadata(path).map_err(|error| Error::io("stat", path, error))?;
        let mode = metadata.mode() & 0o7777;
        set_mode(path, mode | 0o700)?;
        let renamed = rename();
        // The layer has its place; that its root is open to its owner is no reason to deny it.
        if let Err(error) = set_mode(renamed.as_deref().unwrap_or(path), mode) {
            tracing::warn!(error = %error.report(), "the mode of a layer's root has changed");
        }
        renamed.map(drop)
    }

    /// Takes a reference to the layer.
    ///
    /// # Errors
    /// `LayerUnknown` when there is no such layer; `Io`.
    pub(crate) fn take_reference(
        &self,
        operation: &'static str,
        id: &LayerId,
        persistent: bool,
    ) -> Result<()> {
        // The answer can only change from yes to no, and not while the counter runs what it is given here.
        self.layers.require(operation, id)?;
        let still_there = || self.layers.require(operation, id);
        self.references.acquire(id, &self.layers.layer(id), persistent, still_there)
    }

    /// Removes what processes that were killed left of their references.
    fn forget_killed(&self) -> Result<()> {
        for id in self.layers.list()? {
            self.references.reclaim(&id, &self.layers.layer(&id), || Ok(()))?;
        }
        Ok(())
    }

    /// A layer that was made as a copy of `id`.
    pub(crate) fn child_of(&self, id: &LayerId) -> Result<Option<LayerId>> {
        for (child, _) in list_ids(&self.notes)? {
            let is_child = self.note(&child)?.is_some_and(|note| note.parent == *id);
            if is_child && self.layers.exists(&child)? {
                return Ok(Some(child));
            }
        }
        Ok(None)
    }
}

/// Whether files of the home can share blocks, found out by trying: file systems of one type differ in it.
fn probe_reflinks(temp_dirs: &TempDirs) -> Result<bool> {
    let dir = temp_dirs.create()?;
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::write(&from, "probe").map_err(|error| Error::io("write", &from, error))?;
    let source = File::open(&from).map_err(|error| Error::io("open", &from, error))?;
    let destination = File::create(&to).map_err(|error| Error::io("open", &to, error))?;
    let shared = clone_file(&destination, &source).is_ok();
    dir.delete()?;
    Ok(shared)
}
