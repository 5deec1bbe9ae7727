//! Layers in the making: made and filled out of sight. What makes them layers is the file that says what is below, which comes last.

use std::fs::{self, DirBuilder};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graphdriver_archive::{self as archive, RootDir};
use graphdriver_core::trees::{rename_new, set_label, set_mode, set_owner};
use graphdriver_core::{
    Applied, CreateOptions, Differ, DifferOutput, Error, ErrorKind, IdMaps, LayerApplyOptions, LayerId,
    Owner, Quota, Result, StagedLayer, TempDir,
};

use crate::branches::text_for_child;
use crate::fill::apply_options;
use crate::home::Home;
use crate::opacity;
use crate::reference::Reference;

/// Mode of the root directory of a layer without parent, as in containers/storage.
const BASE_MODE: u32 = 0o555;

/// In the temporary directory.
const DIFF: &str = "diff";

/// A layer without a name. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Draft {
    home: Arc<Home>,
    temp_dir: TempDir,
    /// Keeps the parent, and with it all below, until the layer has its place.
    parent: Option<(LayerId, Reference)>,
    ancestors: Vec<LayerId>,
    applied: Applied,
}

impl Draft {
    /// An empty branch.
    ///
    /// # Errors
    /// `ParentUnknown`; `InvalidArgument`, `NotSupported` for limits; `NoSpace`; `Io`. Nothing remains.
    pub(crate) fn new(home: &Arc<Home>, options: &CreateOptions) -> Result<Self> {
        if options.limits(Quota::default())?.is_some_and(|limits| !limits.is_unlimited()) {
            return Err(Error::new(ErrorKind::NotSupported, "create")
                .detail("the layer cannot be limited: --storage-opt is not supported for aufs"));
        }
        let parent = options.parent.as_ref().map(|parent| take_parent(home, parent)).transpose()?;
        let ancestors = match &parent {
            Some((parent, _)) => home.ancestors("create", parent)?,
            None => Vec::new(),
        };
        let temp_dir = home.temp_dirs.create()?;
        let draft = Self { home: Arc::clone(home), temp_dir, parent, ancestors, applied: Applied::default() };
        draft.make_branch(options)?;
        Ok(draft)
    }

    /// Looks as the parent's, so that a mount shows what that one showed.
    fn make_branch(&self, options: &CreateOptions) -> Result<()> {
        let path = self.path();
        DirBuilder::new().mode(0o700).create(&path).map_err(|error| Error::io("mkdir", &path, error))?;
        let root = RootDir::open(&path)?;
        let (mode, owner) = match &self.parent {
            Some((parent, _)) => look_below(&self.home.diff(parent), &options.id_maps)?,
            None => (BASE_MODE, options.id_maps.root()?),
        };
        set_owner(&root, owner, options.id_maps.is_identity())?;
        set_mode(root.path(), mode)?;
        options.label.as_ref().map_or(Ok(()), |label| set_label(&root, label))
    }

    /// Gives it the mode and the owner of another branch.
    pub(crate) fn look_like(&self, branch: &Path) -> Result<()> {
        let (mode, owner) = look_below(branch, &IdMaps::default())?;
        set_owner(&RootDir::open(self.path())?, owner, false)?;
        set_mode(&self.path(), mode)
    }

    /// The branch, out of sight.
    pub(crate) fn path(&self) -> PathBuf {
        self.temp_dir.path().join(DIFF)
    }

    /// Unpacks `tar` into it.
    ///
    /// # Errors
    /// As [`archive::apply`].
    pub(crate) fn fill(&mut self, tar: &mut dyn Read, options: &LayerApplyOptions) -> Result<Applied> {
        let (root, lowers) = (RootDir::open(self.path())?, self.lowers()?);
        self.applied = archive::apply(&root, tar, &apply_options(options, lowers.clone()))?;
        opacity::complete(&root, &lowers)?;
        self.flush(&root)?;
        Ok(self.applied)
    }

    /// Lets `differ` fill it.
    ///
    /// # Errors
    /// As the differ.
    pub(crate) fn fill_with(
        &mut self,
        differ: &mut dyn Differ,
        options: &LayerApplyOptions,
    ) -> Result<DifferOutput> {
        let (root, lowers) = (RootDir::open(self.path())?, self.lowers()?);
        let output = differ.fill(&root, &apply_options(options, lowers.clone()))?;
        self.applied = output.applied;
        opacity::complete(&root, &lowers)?;
        self.flush(&root)?;
        Ok(output)
    }

    fn lowers(&self) -> Result<Vec<RootDir>> {
        let parent = self.parent.as_ref().map(|(parent, _)| parent);
        self.home.open_branches(parent.into_iter().chain(&self.ancestors))
    }

    fn flush(&self, root: &RootDir) -> Result<()> {
        self.home.options.sync.flush(root).map_err(|error| error.path(root.path()))
    }

    /// Gives the layer its name.
    ///
    /// # Errors
    /// `LayerExists`; `ParentUnknown` when another program removed the parent meanwhile; `Io`. Nothing remains.
    pub(crate) fn publish(self, id: &LayerId) -> Result<()> {
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
        for stray in [home.diff(id), home.mount_point(id)] {
            self.make_room(&stray)?;
        }
        rename_new(&self.path(), &home.diff(id), id)?;
        let published = make_layer(home, id, self.parent.as_ref().map(|(parent, _)| parent), &self.ancestors);
        published.inspect_err(|_| {
            if let Err(error) = self.make_room(&home.diff(id)) {
                tracing::warn!(error = %error.report(), "the branch of a layer that was not made stays");
            }
        })
    }

    /// Takes away what a killed process left of a layer that was never made.
    fn make_room(&self, path: &Path) -> Result<()> {
        match self.temp_dir.take_in(path) {
            Err(error) if error.errno() == Some(nix::errno::Errno::ENOENT) => Ok(()),
            taken => {
                taken.map(|_| tracing::info!(?path, "removed what was left of a layer that was never made"))
            }
        }
    }
}

/// Makes a layer of the branch that is in its place. The home is locked.
pub(crate) fn make_layer(
    home: &Home,
    id: &LayerId,
    parent: Option<&LayerId>,
    ancestors: &[LayerId],
) -> Result<()> {
    let mount_point = home.mount_point(id);
    match DirBuilder::new().mode(0o755).create(&mount_point) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(Error::io("mkdir", mount_point, error));
        }
        _ => {}
    }
    // Not seen before all of it is there: a layer without its line would be one without parents.
    home.temp_dirs.write_atomic(&home.layer_file(id), text_for_child(parent, ancestors).as_bytes(), 0o644)
}

impl StagedLayer for Draft {
    fn applied(&self) -> Applied {
        self.applied
    }

    fn commit(self: Box<Self>, id: &LayerId) -> Result<()> {
        self.publish(id)
    }
}

fn take_parent(home: &Arc<Home>, parent: &LayerId) -> Result<(LayerId, Reference)> {
    match Reference::take(home, "create", parent) {
        Ok(reference) => Ok((parent.clone(), reference)),
        Err(error) if error.kind() == ErrorKind::LayerUnknown => Err(Error::parent_unknown("create", parent)),
        Err(error) => Err(error),
    }
}

/// Mode and owner of the root of a layer on the branch `below`, used under `maps`: what belongs to an id of the container belongs to that one's id on the host.
fn look_below(below: &Path, maps: &IdMaps) -> Result<(u32, Owner)> {
    let metadata = fs::metadata(below).map_err(|error| Error::io("stat", below, error))?;
    let is = Owner { uid: metadata.uid(), gid: metadata.gid() };
    let owner = match maps.to_container(is) {
        Some(_) => is,
        None => maps.to_host(is).unwrap_or(is),
    };
    Ok((metadata.mode() & 0o7777, owner))
}
