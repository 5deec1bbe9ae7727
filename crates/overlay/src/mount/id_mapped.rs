//! Mounting with lower directories whose owners are shown through id maps.
//!
//! The kernel maps ids for a mount, not for overlay: so the lower directories are reached through copies of the mounts that they lie on, each with
//! the maps ([mount_setattr(2)](https://man7.org/linux/man-pages/man2/mount_setattr.2.html), Linux 5.12; below overlay 5.19). One
//! copy of a store serves all of its layers. The upper directory is not mapped: owners are written as the host's ids.

use std::borrow::Cow;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use graphdriver_core::{Error, ErrorKind, IdMap, IdMaps, Result};
use graphdriver_sys::mount_api::{
    MountAttr, MountAttrFlags, OpenTreeFlags, Propagation, SetAttrFlags, mount_setattr, open_tree,
};
use graphdriver_sys::user_namespace::{self, IdRange};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, fstat, stat};

use super::{MountApi, OverlayMount, attach_detached, failed, namespace};

/// How overlay gets at directories on id-mapped mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdMapping {
    /// Through mounts that are attached nowhere and vanish with their descriptors: Linux 6.15.
    Detached,
    /// Through mounts attached in a mount namespace that lasts for as long as it takes to mount: Linux 5.19.
    Namespace,
}

/// An overlay mount through id maps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdMapped<'a> {
    pub(crate) mount: OverlayMount<'a>,
    /// How many of the first lower directories are the layer's own, whose owners are the host's already.
    pub(crate) own: usize,
    pub(crate) maps: &'a IdMaps,
    /// Directories that lower directories are likely to be below.
    pub(crate) stores: &'a [&'a Path],
}

impl IdMapped<'_> {
    /// Makes the mount, as [`OverlayMount::attach`] does.
    ///
    /// # Errors
    /// As [`OverlayMount::attach`]; `NotSupported` for a file system that cannot map ids; `InvalidArgument`, `PermissionDenied` for maps that
    /// cannot be had.
    pub(crate) fn attach(&self, api: MountApi, how: IdMapping) -> Result<()> {
        attach_detached(&self.detached(api, how)?, self.mount.target)
    }

    /// Makes the mount and attaches it nowhere, as [`OverlayMount::detached`] does.
    ///
    /// # Errors
    /// As [`attach`](Self::attach).
    pub(crate) fn detached(&self, api: MountApi, how: IdMapping) -> Result<OwnedFd> {
        let (own, below) = self.mount.lowers.split_at(self.own.min(self.mount.lowers.len()));
        let copies = Copies::of(below, self.stores, &namespace_of(self.maps)?)?;
        let lowers = |prefix: &dyn Fn(usize) -> PathBuf| -> Vec<Cow<'_, Path>> {
            own.iter().cloned().chain(copies.paths(prefix)).collect()
        };
        match how {
            IdMapping::Detached => {
                let lowers = lowers(&|index| copies.descriptor_path(index));
                OverlayMount { lowers: &lowers, ..self.mount }.detached(api)
            }
            IdMapping::Namespace => namespace::run(self.mount.target, |stage| {
                let places = stage.attach(&copies.mounts)?;
                let lowers = lowers(&|index| places[index].clone());
                OverlayMount { lowers: &lowers, ..self.mount }.detached_on(stage, api)
            }),
        }
    }
}

/// The user namespace that has these maps.
fn namespace_of(maps: &IdMaps) -> Result<OwnedFd> {
    user_namespace::create(&ranges(maps.uids()), &ranges(maps.gids())).map_err(|error| {
        let errno = error.source.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw);
        let failed = Error::call("map ids", errno).detail(error.to_string());
        match errno {
            Errno::EINVAL => Error::new(ErrorKind::InvalidArgument, "map ids").source(error),
            _ => failed.source(error),
        }
    })
}

fn ranges(maps: &[IdMap]) -> Vec<IdRange> {
    if maps.is_empty() {
        return vec![IdRange::IDENTITY];
    }
    maps.iter()
        .map(|map| IdRange { inside: map.container_id, outside: map.host_id, count: map.size })
        .collect()
}

/// Id-mapped copies of mounts, and where on them the directories are.
struct Copies {
    mounts: Vec<OwnedFd>,
    /// For each directory, the index of its mount and the path from its root.
    places: Vec<(usize, PathBuf)>,
}

impl Copies {
    fn of(directories: &[Cow<'_, Path>], stores: &[&Path], userns: &OwnedFd) -> Result<Self> {
        let mut copies = Self { mounts: Vec::new(), places: Vec::new() };
        let mut of_stores: Vec<Option<usize>> = vec![None; stores.len()];
        for directory in directories {
            let store = stores.iter().position(|store| directory.starts_with(store));
            let below = match store {
                Some(store) => copies.below(directory, stores[store], &mut of_stores[store], userns)?,
                None => None,
            };
            // On a mount of its own, or elsewhere behind a symbolic link.
            let place = match below {
                Some(place) => place,
                None => (copies.add(directory, userns)?, PathBuf::new()),
            };
            copies.places.push(place);
        }
        Ok(copies)
    }

    /// Where the directory is on the copy of a store, if it is there.
    fn below(
        &mut self,
        directory: &Path,
        store: &Path,
        index: &mut Option<usize>,
        userns: &OwnedFd,
    ) -> Result<Option<(usize, PathBuf)>> {
        let copy = match *index {
            Some(copy) => copy,
            None => *index.insert(self.add(store, userns)?),
        };
        let Ok(path) = directory.strip_prefix(store) else { return Ok(None) };
        let wanted = stat(directory).map_err(|errno| Error::syscall("stat", directory, errno))?;
        let found = find(&self.mounts[copy], path);
        Ok(found.filter(|found| same(found, &wanted)).map(|_| (copy, path.to_owned())))
    }

    /// Copies the mount that `directory` is on, from there downwards.
    fn add(&mut self, directory: &Path, userns: &OwnedFd) -> Result<usize> {
        let copy = open_tree(AT_FDCWD, directory, OpenTreeFlags::CLONE)
            .map_err(|errno| failed("open_tree", directory, errno))?;
        let attributes = MountAttr {
            set: MountAttrFlags::RDONLY,
            propagation: Some(Propagation::Private),
            userns: Some(userns.as_fd()),
            ..MountAttr::default()
        };
        mount_setattr(&copy, c"", SetAttrFlags::EMPTY_PATH, &attributes).map_err(|errno| match errno {
            Errno::EINVAL => Error::new(ErrorKind::NotSupported, "mount_setattr")
                .path(directory)
                .detail("the file system cannot show other owners than it has")
                .source(std::io::Error::from(errno)),
            _ => failed("mount_setattr", directory, errno),
        })?;
        self.mounts.push(copy);
        Ok(self.mounts.len() - 1)
    }

    /// A path to the root of a copy that needs no mount point.
    fn descriptor_path(&self, index: usize) -> PathBuf {
        format!("/proc/thread-self/fd/{}", self.mounts[index].as_raw_fd()).into()
    }

    /// The directories, with the roots of the copies where `prefix` says.
    fn paths(&self, prefix: &dyn Fn(usize) -> PathBuf) -> Vec<Cow<'static, Path>> {
        let path = |(index, below): &(usize, PathBuf)| {
            let root = prefix(*index);
            Cow::from(if below.as_os_str().is_empty() { root } else { root.join(below) })
        };
        self.places.iter().map(path).collect()
    }
}

/// What is at `path` on a mount, without leaving it.
fn find(mount: &OwnedFd, path: &Path) -> Option<FileStat> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    fstat(openat2(mount, path, how).ok()?).ok()
}

fn same(one: &FileStat, other: &FileStat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}
