//! Layers in the making: made and filled out of sight, then in place by one rename.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use graphdriver_archive::{self as archive, CopyOptions, RootDir};
use graphdriver_core::trees::{rename_new, set_label};
use graphdriver_core::{
    Applied, CreateOptions, Differ, DifferOutput, Error, ErrorKind, HomeLock, LayerApplyOptions, LayerId,
    Quota, Result, StagedLayer, TempDir, sync_dir,
};

use super::fill::apply_options;
use super::home::Home;
use super::layer::{Form, LayerDir};
use super::note::Note;
use super::reference::Reference;
use super::tree::{dress, inherit, make_private_dir};
use crate::create::DirectoryLook;

/// Mode of the root directory of a layer without parent, as in containers/storage.
const BASE_MODE: u32 = 0o555;

/// The layer's name until it has its own.
const LAYER: &str = "layer";

/// A layer without a name. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Draft {
    home: Arc<Home>,
    layer: LayerDir,
    /// Is deleted at the end, with what is left in it.
    _temp_dir: TempDir,
    /// Keeps the parent until the layer has its place.
    parent: Option<(LayerId, Reference)>,
    applied: Applied,
}

impl Draft {
    /// A layer that shows what its parent does: an empty tree without one, else an upper directory on a tree.
    ///
    /// # Errors
    /// `ParentUnknown`; `InvalidArgument`, `NotSupported` for limits; `NoSpace`; `Io`. Nothing remains.
    pub(super) fn on_parent(home: &Arc<Home>, options: &CreateOptions) -> Result<Self> {
        let draft = Self::new(home, options)?;
        let contents = match &draft.parent {
            None => draft.empty_tree(options)?,
            Some((parent, _)) => draft.upper_on(parent, options)?,
        };
        label(&contents, options)?;
        Ok(draft)
    }

    /// A tree with all that the parent shows, to be filled.
    ///
    /// # Errors
    /// As [`on_parent`](Self::on_parent).
    pub(super) fn tree(home: &Arc<Home>, options: &CreateOptions) -> Result<Self> {
        let draft = Self::new(home, options)?;
        let contents = match &draft.parent {
            None => draft.empty_tree(options)?,
            Some((parent, _)) => {
                let (layer, form) = home.require("create", parent)?;
                let look = DirectoryLook::of(&layer.contents(form))?;
                let root = make_private_dir(&draft.layer.root())?;
                let shares = inherit(home, &layer, form, &root)?;
                dress(&root, look.under(&options.id_maps), false)?;
                draft.layer.set_note(&Note { parent: Some(parent.clone()), owns_files: !shares })?;
                root
            }
        };
        label(&contents, options)?;
        Ok(draft)
    }

    fn new(home: &Arc<Home>, options: &CreateOptions) -> Result<Self> {
        if options.limits(Quota::default())?.is_some_and(|limits| !limits.is_unlimited()) {
            return Err(Error::new(ErrorKind::NotSupported, "create").detail(
                "the layer cannot be limited: layers share files, which the file system counts once; use the driver overlay",
            ));
        }
        let parent = options.parent.as_ref().map(|parent| take_parent(home, parent)).transpose()?;
        let temp_dir = home.temp_dirs.create()?;
        let layer = LayerDir::new(temp_dir.path().join(LAYER));
        let draft =
            Self { home: Arc::clone(home), layer, _temp_dir: temp_dir, parent, applied: Applied::default() };
        let root = options.id_maps.root()?;
        let dir = make_private_dir(draft.layer.path())?;
        dress(&dir, DirectoryLook { mode: 0o700, owner: root }, options.id_maps.is_identity())?;
        make_private_dir(&draft.layer.merged())?;
        // What the layer will need when files of it get names in another one; no layer is to grow when it gets a child.
        drop(HomeLock::exclusive(draft.layer.path())?);
        Ok(draft)
    }

    fn empty_tree(&self, options: &CreateOptions) -> Result<RootDir> {
        let root = make_private_dir(&self.layer.root())?;
        let look = DirectoryLook { mode: BASE_MODE, owner: options.id_maps.root()? };
        dress(&root, look, options.id_maps.is_identity())?;
        self.layer.set_note(&Note { parent: None, owns_files: true })?;
        Ok(root)
    }

    fn upper_on(&self, parent: &LayerId, options: &CreateOptions) -> Result<RootDir> {
        let (below, form) = self.home.require("create", parent)?;
        let lower = match form {
            Form::Tree => parent.clone(),
            Form::Upper => below.lower_id()?.ok_or_else(|| Error::parent_unknown("create", parent))?,
        };
        let look = DirectoryLook::of(&below.contents(form))?;
        let upper = make_private_dir(&self.layer.upper())?;
        if form == Form::Upper {
            let options = CopyOptions { overlay_marks: Some(self.home.xattrs()), ..self.home.copy_options() };
            archive::copy_tree(&RootDir::open(below.upper())?, &upper, &options)?;
        }
        dress(&upper, look.under(&options.id_maps), false)?;
        make_private_dir(&self.layer.work())?;
        self.layer.set_lower_id(&lower)?;
        self.layer.set_note(&Note { parent: Some(parent.clone()), owns_files: true })?;
        Ok(upper)
    }

    /// Where the layer is meanwhile.
    pub(super) fn layer(&self) -> &LayerDir {
        &self.layer
    }

    /// Unpacks `tar` into its tree.
    ///
    /// # Errors
    /// As [`archive::apply`].
    pub(super) fn fill(&mut self, tar: &mut dyn Read, options: &LayerApplyOptions) -> Result<Applied> {
        let root = RootDir::open(self.layer.root())?;
        self.applied = archive::apply(&root, tar, &apply_options(&self.home, options))?;
        self.flush(&root)?;
        Ok(self.applied)
    }

    /// Lets `differ` fill its tree.
    ///
    /// # Errors
    /// As the differ.
    pub(super) fn fill_with(
        &mut self,
        differ: &mut dyn Differ,
        options: &LayerApplyOptions,
    ) -> Result<DifferOutput> {
        let root = RootDir::open(self.layer.root())?;
        let output = differ.fill(&root, &apply_options(&self.home, options))?;
        self.applied = output.applied;
        self.flush(&root)?;
        Ok(output)
    }

    fn flush(&self, root: &RootDir) -> Result<()> {
        self.home.sync.flush(root).map_err(|error| error.path(root.path()))
    }

    /// Gives the layer its name.
    ///
    /// # Errors
    /// `LayerExists`; `ParentUnknown` when another program removed the parent meanwhile; `Io`. Nothing remains.
    pub(super) fn publish(self, id: &LayerId) -> Result<()> {
        let home = &self.home;
        let _lock = home.lock()?;
        if home.exists(id)? {
            return Err(Error::layer_exists("create", id));
        }
        if let Some((parent, _)) = &self.parent
            && !home.exists(parent)?
        {
            return Err(Error::parent_unknown("create", parent));
        }
        rename_new(self.layer.path(), home.layer(id).path(), id)?;
        // The layer is there; whether its name survives a power cut right now is all that is in doubt.
        let dir = home.path();
        let synced = File::open(dir).map_err(|error| Error::io("open", dir, error)).and_then(sync_dir);
        if let Err(error) = synced {
            tracing::warn!(layer = %id, error = %error.report(), "the name of a new layer may not survive a power cut");
        }
        Ok(())
    }
}

impl StagedLayer for Draft {
    fn applied(&self) -> Applied {
        self.applied
    }

    fn commit(self: Box<Self>, id: &LayerId) -> Result<()> {
        self.publish(id)
    }
}

fn label(contents: &RootDir, options: &CreateOptions) -> Result<()> {
    options.label.as_ref().map_or(Ok(()), |label| set_label(contents, label))
}

fn take_parent(home: &Arc<Home>, parent: &LayerId) -> Result<(LayerId, Reference)> {
    match Reference::take(home, "create", parent) {
        Ok(reference) => Ok((parent.clone(), reference)),
        Err(error) if error.kind() == ErrorKind::LayerUnknown => Err(Error::parent_unknown("create", parent)),
        Err(error) => Err(error),
    }
}
