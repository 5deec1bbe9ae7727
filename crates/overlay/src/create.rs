//! Making layers: out of sight, then in place by one rename.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use graphdriver_archive::RootDir;
use graphdriver_core::{
    CreateOptions, Error, ErrorKind, IdMaps, LayerId, LayerKind, Owner, Result, TempDir, sync_dir, write_new,
};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::committed::Mark;
use crate::composefs::keep_as_image;
use crate::exact::Kept;
use crate::home::Home;
use crate::layout::{ADDITIONAL_LAYER, DIFF, EMPTY, LINK, LOWER, LayerDir, Layout, MERGED, TAR_SPLIT, WORK};
use crate::link::{self, LinkId};
use crate::mask;
use crate::parent::Parent;

/// The layer's name until it has its own.
const LAYER: &str = "layer";

/// A layer in a temporary directory, complete but for its name. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Draft {
    temp_dir: TempDir,
    link: LinkId,
    parent: Option<Parent>,
    /// Where it is to appear.
    store: Layout,
    /// Of the archive that it was filled from.
    record: Option<Kept>,
    /// Whether it is to be kept as an image.
    becomes_image: bool,
}

impl Draft {
    /// An empty layer.
    ///
    /// # Errors
    /// `ParentUnknown`; `InvalidArgument` when more layers are below than the kernel stacks, and for limits of a read-only layer; `NotSupported` for limits that cannot be had here; `NoSpace`; `Io`.
    pub(crate) fn new(home: &Home, options: &CreateOptions) -> Result<Self> {
        let parent = options.parent.as_ref().map(|parent| Parent::read(home, parent)).transpose()?;
        let store = home.stores.for_kind(options.kind).clone();
        let temp_dir = home.temp_dirs_of(&store).create()?;
        let becomes_image = home.options.use_composefs && options.kind == LayerKind::ReadOnly;
        let draft = Self { temp_dir, link: LinkId::random(), parent, store, record: None, becomes_image };
        draft.fill(home, options).map_err(|error| draft.name_limits(home, error))?;
        Ok(draft)
    }

    /// The layer below.
    pub(crate) fn parent(&self) -> Option<&LayerDir> {
        self.parent.as_ref().map(|parent| &parent.layer)
    }

    /// Keeps what the layer has been filled with as an image, if that is asked for; `record` is of its archive.
    ///
    /// # Errors
    /// As [`keep_as_image`].
    pub(crate) fn finish_image(&self, record: Option<Kept>) -> Result<Option<Kept>> {
        if !self.becomes_image {
            return Ok(record);
        }
        keep_as_image(&self.path(), self.temp_dir.path())?;
        let root = RootDir::open(self.diff())?;
        record.map(|record| record.moved_to(root)).transpose()
    }

    /// The directory that holds what the layer adds.
    pub(crate) fn diff(&self) -> PathBuf {
        self.path().join(DIFF)
    }

    /// Names the limits of the layer, if `error` may come from them.
    fn name_limits(&self, home: &Home, error: Error) -> Error {
        match RootDir::open(self.path()) {
            Ok(dir) => home.quotas.explain(error, &dir),
            Err(_) => error,
        }
    }

    /// Where the record of its archive can be written.
    pub(crate) fn record(&self) -> PathBuf {
        self.temp_dir.path().join(TAR_SPLIT)
    }

    /// Keeps the record until the layer has its name.
    pub(crate) fn with_record(self, record: Option<Kept>) -> Self {
        Self { record, ..self }
    }

    fn path(&self) -> PathBuf {
        self.temp_dir.path().join(LAYER)
    }

    fn fill(&self, home: &Home, options: &CreateOptions) -> Result<()> {
        let root = options.id_maps.root()?;
        let lenient = home.options.ignore_chown_errors;
        let private = DirectoryLook { mode: 0o700, owner: root };
        let path = self.path();
        make_dir(&path, private, lenient)?;
        home.quotas.begin(&RootDir::open(&path)?, options)?;
        let look = match &self.parent {
            Some(parent) => parent.look.under(&options.id_maps),
            None => DirectoryLook { mode: 0o555, owner: root },
        };
        mask::make_root(home, &path.join(DIFF), look)?;
        make_dir(&path.join(WORK), private, lenient)?;
        make_dir(&path.join(MERGED), private, lenient)?;
        let dir = File::open(&path).map_err(|error| Error::io("open", &path, error))?;
        match &self.parent {
            Some(parent) => write_new(&dir, LOWER, parent.lower.as_bytes(), 0o644)?,
            None => make_dir(&path.join(EMPTY), private, lenient)?,
        }
        write_new(&dir, LINK, self.link.as_str().as_bytes(), 0o644)?;
        sync_dir(&dir).map_err(|error| error.path(&path))
    }

    /// Lets what another program shows at `diff` be what the layer adds; `note` says so.
    pub(crate) fn stand_for(&self, diff: &Path, note: &[u8]) -> Result<()> {
        let path = self.diff();
        fs::remove_dir(&path).map_err(|error| Error::io("rmdir", &path, error))?;
        symlink(diff, &path).map_err(|error| Error::io("symlink", &path, error))?;
        let dir = File::open(self.path()).map_err(|error| Error::io("open", self.path(), error))?;
        write_new(&dir, ADDITIONAL_LAYER, note, 0o644)?;
        sync_dir(&dir).map_err(|error| error.path(self.path()))
    }

    /// The cause of a failure to fill the layer: its parent, of which nothing keeps others from removing it before it has a child, may be gone.
    pub(crate) fn explain(&self, error: Error) -> Error {
        match self.parent.as_ref().map(Parent::check) {
            Some(Err(gone)) if gone.kind() == ErrorKind::ParentUnknown => gone.source(error),
            _ => error,
        }
    }

    /// Gives the layer its name.
    ///
    /// # Errors
    /// `LayerExists`; `ParentUnknown` when the parent is gone meanwhile; `Io`. Nothing remains.
    pub(crate) fn publish(mut self, home: &Home, id: &LayerId) -> Result<()> {
        let store = &self.store;
        let layer = store.layer(id);
        let _locks = home.stores.lock()?;
        home.stores.require_absent(id)?;
        make_room(&layer)?;
        if let Some(parent) = &self.parent {
            parent.check()?;
        }
        if let Some(record) = &mut self.record {
            // Before the layer, so that nothing can be done to that in between. One without its layer means nothing.
            record.place(store.path(), &self.temp_dir.path().join(LAYER), id)?;
        }
        let mark = self.parent.as_ref().map(|parent| Mark::set(&parent.layer)).transpose()?.flatten();
        link::make(store, &self.link, id)?;
        rename_new(&self.path(), layer.path()).map_err(|errno| {
            if let Err(error) = link::remove(store, &self.link) {
                tracing::warn!(error = %error.report(), "the link of a layer that was not made stays");
            }
            already_there(&layer, errno)
        })?;
        if let Some(mark) = mark {
            mark.keep();
        }
        for dir in [store.path(), &store.links()] {
            // The layer is there; whether its name survives a power cut right now is all that is in doubt.
            let synced = File::open(dir).map_err(|error| Error::io("open", dir, error)).and_then(sync_dir);
            if let Err(error) = synced {
                tracing::warn!(layer = %id, error = %error.report(), "the name of a new layer may not survive a power cut");
            }
        }
        Ok(())
    }
}

/// Clears away an empty directory of the layer's name, which a killed process of another program may have left.
fn make_room(layer: &LayerDir) -> Result<()> {
    match fs::remove_dir(layer.path()) {
        Ok(()) => {
            tracing::info!(layer = %layer.id(), "removed the empty directory of a layer that was never made");
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(already_there(layer, Errno::EEXIST).source(error)),
    }
}

fn already_there(layer: &LayerDir, errno: Errno) -> Error {
    if !matches!(errno, Errno::EEXIST | Errno::ENOTEMPTY) {
        return Error::syscall("rename", layer.path(), errno);
    }
    let error = Error::layer_exists("create", layer.id()).path(layer.path());
    match layer.exists() {
        Ok(false) => error.detail("there is an incomplete layer with this id; remove it first"),
        _ => error,
    }
}

/// Renames `from` to `to`, which must not exist.
fn rename_new(from: &Path, to: &Path) -> nix::Result<()> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        // Some file systems lack the flag; the lock keeps others of us off, and a directory replaces none but empty ones.
        Err(Errno::EINVAL | Errno::ENOSYS) => nix::fcntl::renameat(AT_FDCWD, from, AT_FDCWD, to),
        result => result,
    }
}

/// Mode and owner of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DirectoryLook {
    pub(crate) mode: u32,
    pub(crate) owner: Owner,
}

impl DirectoryLook {
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let metadata = fs::metadata(path).map_err(|error| Error::io("stat", path, error))?;
        let owner = Owner { uid: metadata.uid(), gid: metadata.gid() };
        Ok(Self { mode: metadata.mode() & 0o7777, owner })
    }
}

impl DirectoryLook {
    /// Of the root of a layer that is used under `maps`: what belongs to an id of the container belongs to that one's id on the host. An owner that
    /// is one of those already, because the parent was rewritten, stays.
    pub(crate) fn under(self, maps: &IdMaps) -> Self {
        let owner = match maps.to_container(self.owner) {
            Some(_) => self.owner,
            None => maps.to_host(self.owner).unwrap_or(self.owner),
        };
        Self { owner, ..self }
    }
}

/// Makes the directory `path` look so, whatever the process's umask. `lenient` leaves the owner as it is where it cannot be set.
pub(crate) fn make_dir(path: &Path, look: DirectoryLook, lenient: bool) -> Result<()> {
    DirBuilder::new().mode(0o700).create(path).map_err(|error| Error::io("mkdir", path, error))?;
    if DirectoryLook::of(path)?.owner != look.owner {
        match lchown(path, Some(look.owner.uid), Some(look.owner.gid)) {
            Err(error) if lenient && may_be_ignored(&error) => {
                tracing::debug!(?path, owner = %look.owner, %error, "the owner of a directory stays as it is");
            }
            result => result
                .map_err(|error| Error::io("chown", path, error).detail(format!("to {}", look.owner)))?,
        }
    }
    fs::set_permissions(path, fs::Permissions::from_mode(look.mode))
        .map_err(|error| Error::io("chmod", path, error))
}

fn may_be_ignored(error: &io::Error) -> bool {
    [Errno::EPERM, Errno::EINVAL].map(|errno| Some(errno as i32)).contains(&error.raw_os_error())
}
