//! A home that is open, and which layers there are.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use graphdriver_archive::whiteout::OverlayXattrs;
use graphdriver_archive::{CopyOptions, LayerStack, RootDir};
use graphdriver_core::trees::{list_ids, make_dirs};
use graphdriver_core::{
    DriverHome, DriverOption, Error, ErrorKind, FsMagic, HomeLock, LayerId, MountInfoChecker, RefCounter,
    Result, SyncMode, TempDir, TempDirs, fs_magic,
};
use parking_lot::Mutex;

use super::layer::{Form, LayerDir};
use crate::home_form::{HomeForm, refused};
use crate::layout::is_of_driver;
use crate::options::OverlayTuning;
use crate::probe::{self, Probes, Scratch, Support};

/// The name of Docker's homes.
const DOCKERS_HOME: &str = "overlay";

/// In the run home: who uses which mount.
const REFERENCES: &str = ".references";

/// File systems that Docker's driver refuses beside those that overlay cannot have below it: they have better, or cannot link.
const REFUSED: [FsMagic; 3] = [FsMagic::BTRFS, FsMagic::NFS, FsMagic::ZFS];

/// A home that is open.
#[derive(Debug)]
pub(super) struct Home {
    path: PathBuf,
    pub(super) sync: SyncMode,
    pub(super) temp_dirs: TempDirs,
    pub(super) references: RefCounter,
    pub(super) support: Support,
    /// Trees that layers had, until nobody who reads one of them is left.
    replaced: Mutex<HashMap<LayerId, Vec<TempDir>>>,
}

/// Tells whether the driver could be opened, without making the home.
///
/// # Errors
/// As [`Home::open`].
pub(super) fn probe(place: &DriverHome) -> Result<()> {
    parse(place.options())?;
    try_beside(&located(place)?)
}

impl Home {
    /// Opens Docker's home where the root has one, else one of this driver's own name, which is made if need be.
    ///
    /// # Errors
    /// `InvalidArgument` for options, and for a home of another driver; `IncompatibleFs`, `NotSupported`, `Prerequisites` as for overlay; `NoSpace`; `PermissionDenied`; `Io`.
    pub(super) fn open(place: &DriverHome) -> Result<Self> {
        let sync = parse(place.options())?;
        let place = located(place)?;
        let path = place.home().to_owned();
        if !path.is_dir() {
            try_beside(&place)?;
            make_dirs(&path, 0o755)?;
        }
        require_file_system(&path)?;
        let temp_dirs = TempDirs::open(&path)?;
        // Makes the run home, too.
        let references = RefCounter::new(Box::new(MountInfoChecker), place.run_home().join(REFERENCES))?;
        let support = Probes::open(&place, &temp_dirs, OverlayTuning::default())?.support();
        Ok(Self { path, sync, temp_dirs, references, support, replaced: Mutex::default() })
    }

    /// The right to change which layers there are.
    pub(super) fn lock(&self) -> Result<HomeLock> {
        HomeLock::exclusive(&self.path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the layer is, or would be.
    pub(super) fn layer(&self, id: &LayerId) -> LayerDir {
        LayerDir::new(self.path.join(id))
    }

    pub(super) fn exists(&self, id: &LayerId) -> Result<bool> {
        Ok(self.layer(id).form()?.is_some())
    }

    /// The layer, and how it is kept.
    ///
    /// # Errors
    /// `LayerUnknown` when there is no such layer.
    pub(super) fn require(&self, operation: &'static str, id: &LayerId) -> Result<(LayerDir, Form)> {
        let layer = self.layer(id);
        match layer.form()? {
            Some(form) => Ok((layer, form)),
            None => Err(Error::layer_unknown(operation, id)),
        }
    }

    /// All layers, sorted.
    pub(super) fn list(&self) -> Result<Vec<LayerId>> {
        let mut found = Vec::new();
        for id in self.directories()? {
            if self.exists(&id)? {
                found.push(id);
            }
        }
        Ok(found)
    }

    /// The directories that are layers or should be, sorted.
    pub(super) fn directories(&self) -> Result<Vec<LayerId>> {
        let entries = list_ids(&self.path)?.into_iter();
        let is_layer = |id: &LayerId| !is_of_driver(id.as_str().as_ref());
        let mut found: Vec<_> =
            entries.filter(|(id, file_type)| file_type.is_dir() && is_layer(id)).map(|(id, _)| id).collect();
        found.sort_unstable();
        Ok(found)
    }

    /// The layer that this one was made on, as far as that is known.
    ///
    /// # Errors
    /// `LayerUnknown`; `Io`.
    pub(super) fn parent(&self, operation: &'static str, id: &LayerId) -> Result<Option<LayerId>> {
        let (layer, form) = self.require(operation, id)?;
        match (layer.note()?.parent, form) {
            (None, Form::Upper) => layer.lower_id(),
            (parent, _) => Ok(parent),
        }
    }

    /// A layer that was made on this one, or needs it for a mount.
    pub(super) fn child_of(&self, id: &LayerId) -> Result<Option<LayerId>> {
        for other in self.directories()? {
            let layer = self.layer(&other);
            if layer.note()?.parent.as_ref() == Some(id) || layer.lower_id()?.as_ref() == Some(id) {
                return Ok(Some(other));
            }
        }
        Ok(None)
    }

    /// A layer that is mounted on the tree of this one.
    pub(super) fn mounted_on(&self, id: &LayerId) -> Result<Option<LayerId>> {
        for other in self.directories()? {
            let layer = self.layer(&other);
            if layer.lower_id()?.as_ref() == Some(id) && self.references.is_mounted(&layer.merged())? {
                return Ok(Some(other));
            }
        }
        Ok(None)
    }

    /// The tree below the layer's upper directory.
    ///
    /// # Errors
    /// `Io` naming the layer that is missing, or has no tree.
    pub(super) fn lower(&self, layer: &LayerDir) -> Result<PathBuf> {
        let broken =
            |what: String| Error::new(ErrorKind::Io, "find lower layer").path(layer.path()).detail(what);
        let Some(id) = layer.lower_id()? else {
            return Err(broken("it says on which layer it lies in no file lower-id".to_owned()));
        };
        let lower = self.layer(&id);
        match lower.form()? {
            Some(Form::Tree) => Ok(lower.root()),
            Some(Form::Upper) => Err(broken(format!("the layer {id} that it lies on is no tree"))),
            None => Err(broken(format!("the layer {id} that it lies on is missing"))),
        }
    }

    /// The directories that show the layer together, uppermost first.
    pub(super) fn parts(&self, layer: &LayerDir, form: Form) -> Result<Vec<PathBuf>> {
        Ok(match form {
            Form::Tree => vec![layer.root()],
            Form::Upper => vec![layer.upper(), self.lower(layer)?],
        })
    }

    /// The same as a mount would show them.
    pub(super) fn stack(&self, layer: &LayerDir, form: Form) -> Result<LayerStack> {
        let parts = self.parts(layer, form)?;
        let open = |path: PathBuf| Ok(RootDir::open(path)?);
        Ok(LayerStack::overlay(parts.into_iter().map(open).collect::<Result<_>>()?, self.xattrs()))
    }

    pub(super) fn xattrs(&self) -> OverlayXattrs {
        self.support.dialect.xattrs
    }

    /// How trees are copied here.
    pub(super) fn copy_options(&self) -> CopyOptions {
        CopyOptions { in_user_namespace: self.xattrs() == OverlayXattrs::User, ..CopyOptions::default() }
    }

    /// Keeps what the layer had until its last reference is given back, for those who read it.
    pub(super) fn keep_replaced(&self, id: &LayerId, old: TempDir) {
        self.replaced.lock().entry(id.clone()).or_default().push(old);
    }

    pub(super) fn delete_replaced(&self, id: &LayerId) {
        let old = self.replaced.lock().remove(id);
        for temp_dir in old.into_iter().flatten() {
            if let Err(error) = temp_dir.delete() {
                tracing::warn!(layer = %id, error = %error.report(), "a layer's former files stay until the home is opened again");
            }
        }
    }

    /// Removes what killed processes left, and unmounts what they had mounted; the first failure is told, all else is done.
    pub(super) fn clean_up(&self) -> Result<()> {
        let mut first = self.temp_dirs.recover();
        for id in self.list()? {
            first = first.and(self.reclaim(&id));
        }
        first
    }
}

fn parse(options: &[DriverOption]) -> Result<SyncMode> {
    let mut sync = SyncMode::default();
    for option in options {
        match option.key() {
            "sync" => sync = option.parse_sync_mode()?,
            "size" | "inodes" => {
                return Err(
                    option.invalid_value("asks for limits, and layers that share files cannot be limited")
                );
            }
            _ => return Err(option.unknown(&["sync"])),
        }
    }
    Ok(sync)
}

/// The directory of the root in which the layers are.
fn located(place: &DriverHome) -> Result<DriverHome> {
    let own = HomeForm::of(place.home())?;
    own.require_hard_linked(place.home())?;
    let dockers = place.clone().in_directory(DOCKERS_HOME);
    if dockers.home() == place.home() {
        return Ok(dockers);
    }
    let form = HomeForm::of(dockers.home())?;
    match (&own.hard_linked, &form) {
        // None, or another driver's, which is none of our business.
        (_, HomeForm { hard_linked: None, .. }) => Ok(place.clone()),
        (None, HomeForm { stacked: None, .. }) => Ok(dockers),
        (Some(_), HomeForm { stacked: None, .. }) => Err(refused(
            place.root(),
            "there are hard-linked layers in both directories, overlay and overlay-hardlink; move one of them to another root",
        )),
        (_, HomeForm { stacked: Some(one), hard_linked: Some(other) }) => Err(refused(
            dockers.home(),
            &format!(
                "layers of two drivers are mixed in it ({one} is overlay's, {other} is hard-linked); move those of one driver to another root"
            ),
        )),
    }
}

fn require_file_system(path: &Path) -> Result<()> {
    let magic = fs_magic(path)?;
    if REFUSED.contains(&magic) {
        let detail = format!("the file system is {magic}: Docker's driver refuses it, and so does this one");
        return Err(Error::new(ErrorKind::IncompatibleFs, "open home").path(path).detail(detail));
    }
    Ok(())
}

/// Probes where the home is or is to be.
fn try_beside(place: &DriverHome) -> Result<()> {
    probe::check_privilege()?;
    require_file_system(place.nearest_dir())?;
    let scratch = Scratch::make(place.nearest_dir())?;
    probe::probe(scratch.path(), OverlayTuning::default()).map(drop)
}
