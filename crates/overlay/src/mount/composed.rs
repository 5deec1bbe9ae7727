//! Mounting what has to be mounted itself before it can be a lower directory: images, and directories whose owners are shown through id maps.

use std::borrow::Cow;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use graphdriver_core::{IdMaps, Result};
use graphdriver_sys::mount_api::{OpenTreeFlags, open_tree};
use nix::fcntl::AT_FDCWD;

use super::id_mapped::Copies;
use super::image::open_image;
use super::{MountApi, OverlayMount, attach_detached, failed, namespace};

/// How overlay gets at directories that lie on mounts made for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdMapping {
    /// The mounts are attached nowhere and vanish with their descriptors: Linux 6.15.
    Detached,
    /// The mounts are attached in a mount namespace that lasts for as long as it takes to mount: Linux 5.19.
    Namespace,
}

/// Something that a mount has below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    Directory(Cow<'a, Path>),
    /// An EROFS image in a file.
    Image(Cow<'a, Path>),
}

/// Which parts are shown with other owners than they have on disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown<'a> {
    /// How many of the first parts are the layer's own, whose owners are the host's already.
    pub(crate) own: usize,
    pub(crate) maps: &'a IdMaps,
    /// Directories that lower directories are likely to be below.
    pub(crate) stores: &'a [&'a Path],
}

/// An overlay mount of parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Composed<'a> {
    /// Its lower directories are not looked at.
    pub(crate) mount: OverlayMount<'a>,
    /// What is below, uppermost first.
    pub(crate) parts: &'a [Part<'a>],
    pub(crate) shown: Option<Shown<'a>>,
    pub(crate) api: MountApi,
    /// Not looked at where all parts are directories, and shown as they are.
    pub(crate) how: IdMapping,
}

impl Part<'_> {
    pub(crate) fn is_image(&self) -> bool {
        matches!(self, Self::Image(_))
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Directory(path) | Self::Image(path) => path,
        }
    }
}

impl Composed<'_> {
    /// Makes the mount, as [`OverlayMount::attach`] does.
    ///
    /// # Errors
    /// As [`OverlayMount::attach`] and [`open_image`]; `NotSupported` for a file system that cannot map ids; `InvalidArgument`, `PermissionDenied` for maps that
    /// cannot be had.
    pub(crate) fn attach(&self) -> Result<()> {
        let sources = Sources::of(self)?;
        if sources.mounts.is_empty() || self.how == IdMapping::Detached {
            return OverlayMount { lowers: &sources.by_descriptor(), ..self.mount }.attach(self.api);
        }
        attach_detached(&self.in_namespace(sources)?, self.mount.target)
    }

    /// Makes the mount, as [`OverlayMount::detached`] does.
    ///
    /// # Errors
    /// As [`attach`](Self::attach).
    pub(crate) fn detached(&self) -> Result<OwnedFd> {
        let sources = Sources::of(self)?;
        // mount(2) needs a namespace in any case.
        let needs_namespace = self.how == IdMapping::Namespace || self.api == MountApi::Mount;
        if sources.mounts.is_empty() || !needs_namespace {
            return OverlayMount { lowers: &sources.by_descriptor(), ..self.mount }.detached(self.api);
        }
        self.in_namespace(sources)
    }

    fn in_namespace(&self, mut sources: Sources<'_>) -> Result<OwnedFd> {
        let data = self.mount.data_only.iter().map(|directory| self.data(directory, &mut sources.mounts));
        let data = data.collect::<Result<Vec<_>>>()?;
        namespace::run(self.mount.target, |stage| {
            let places = stage.attach(&sources.mounts)?;
            let root = |index: usize| places[index].clone();
            let (lowers, data_only) = (sources.paths(&root), paths(&data, &root));
            OverlayMount { lowers: &lowers, data_only: &data_only, ..self.mount }.detached_on(stage, self.api)
        })
    }

    /// Where a directory of contents is once the stage lies on the target, which hides what is below: on a mount of its own.
    fn data<'b>(&self, directory: &'b Path, mounts: &mut Vec<OwnedFd>) -> Result<Place<'b>> {
        if !directory.starts_with(self.mount.target) {
            return Ok(Place::Path(directory));
        }
        let copy = open_tree(AT_FDCWD, directory, OpenTreeFlags::CLONE)
            .map_err(|errno| failed("open_tree", directory, errno))?;
        mounts.push(copy);
        Ok(Place::On(mounts.len() - 1, PathBuf::new()))
    }
}

/// The mounts that were made, and where the directories are.
struct Sources<'a> {
    mounts: Vec<OwnedFd>,
    places: Vec<Place<'a>>,
}

enum Place<'a> {
    Path(&'a Path),
    /// On one of the mounts, at this path from its root.
    On(usize, PathBuf),
}

impl<'a> Sources<'a> {
    fn of(composed: &Composed<'a>) -> Result<Self> {
        let mut sources = Self { mounts: Vec::new(), places: Vec::new() };
        let mut copies = composed.shown.map(|shown| Copies::new(shown.stores, shown.maps)).transpose()?;
        let own = composed.shown.map_or(0, |shown| shown.own);
        for (index, part) in composed.parts.iter().enumerate() {
            let copies = copies.as_mut().filter(|_| index >= own);
            let place = sources.place(part, copies)?;
            sources.places.push(place);
        }
        Ok(sources)
    }

    fn place(&mut self, part: &'a Part<'a>, copies: Option<&mut Copies<'_>>) -> Result<Place<'a>> {
        match (part, copies) {
            (Part::Directory(path), None) => Ok(Place::Path(path)),
            (Part::Directory(path), Some(copies)) => {
                let (mount, below) = copies.place(path, &mut self.mounts)?;
                Ok(Place::On(mount, below))
            }
            (Part::Image(path), copies) => {
                let mount = open_image(path)?;
                copies.map_or(Ok(()), |copies| copies.map(&mount, path))?;
                self.mounts.push(mount);
                Ok(Place::On(self.mounts.len() - 1, PathBuf::new()))
            }
        }
    }

    /// The directories, on mounts that need no mount point.
    fn by_descriptor(&self) -> Vec<Cow<'_, Path>> {
        self.paths(&|index| format!("/proc/thread-self/fd/{}", self.mounts[index].as_raw_fd()).into())
    }

    fn paths(&self, root: &dyn Fn(usize) -> PathBuf) -> Vec<Cow<'_, Path>> {
        paths(&self.places, root)
    }
}

/// The directories, with the roots of the mounts where `root` says.
fn paths<'a>(places: &'a [Place<'_>], root: &dyn Fn(usize) -> PathBuf) -> Vec<Cow<'a, Path>> {
    let path = |place: &'a Place<'_>| match place {
        Place::Path(path) => Cow::from(*path),
        Place::On(mount, below) if below.as_os_str().is_empty() => Cow::from(root(*mount)),
        Place::On(mount, below) => Cow::from(root(*mount).join(below)),
    };
    places.iter().map(path).collect()
}
