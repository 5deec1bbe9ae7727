//! Mounting with lower directories whose owners are shown through id maps.
//!
//! The kernel maps ids for a mount, not for overlay: so the lower directories are reached through copies of the mounts that they lie on, each with
//! the maps ([mount_setattr(2)](https://man7.org/linux/man-pages/man2/mount_setattr.2.html), Linux 5.12; below overlay 5.19). One
//! copy of a store serves all of its layers. The upper directory is not mapped: owners are written as the host's ids.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use graphdriver_core::{Error, ErrorKind, IdMap, IdMaps, Result};
use graphdriver_sys::mount_api::{
    MountAttr, MountAttrFlags, OpenTreeFlags, Propagation, SetAttrFlags, mount_setattr, open_tree,
};
use graphdriver_sys::user_namespace::{self, IdRange};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, fstat, stat};

use super::failed;

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

/// Id-mapped copies of mounts.
pub(super) struct Copies<'a> {
    userns: OwnedFd,
    stores: &'a [&'a Path],
    /// The copies of the stores, by their index among the mounts.
    of_stores: Vec<Option<usize>>,
}

impl<'a> Copies<'a> {
    pub(super) fn new(stores: &'a [&'a Path], maps: &IdMaps) -> Result<Self> {
        Ok(Self { userns: namespace_of(maps)?, stores, of_stores: vec![None; stores.len()] })
    }

    /// Where the directory is on a copy, which is added to `mounts` if need be: the index of the mount, and the path from its root.
    pub(super) fn place(&mut self, directory: &Path, mounts: &mut Vec<OwnedFd>) -> Result<(usize, PathBuf)> {
        let store = self.stores.iter().position(|store| directory.starts_with(store));
        let below = match store {
            Some(store) => self.below(directory, store, mounts)?,
            None => None,
        };
        // On a mount of its own, or elsewhere behind a symbolic link.
        match below {
            Some(place) => Ok(place),
            None => Ok((self.add(directory, mounts)?, PathBuf::new())),
        }
    }

    /// Where the directory is on the copy of a store, if it is there.
    fn below(
        &mut self,
        directory: &Path,
        store: usize,
        mounts: &mut Vec<OwnedFd>,
    ) -> Result<Option<(usize, PathBuf)>> {
        let copy = match self.of_stores[store] {
            Some(copy) => copy,
            None => self.add(self.stores[store], mounts)?,
        };
        self.of_stores[store] = Some(copy);
        let Ok(path) = directory.strip_prefix(self.stores[store]) else { return Ok(None) };
        let wanted = stat(directory).map_err(|errno| Error::syscall("stat", directory, errno))?;
        let found = find(&mounts[copy], path);
        Ok(found.filter(|found| same(found, &wanted)).map(|_| (copy, path.to_owned())))
    }

    /// Copies the mount that `directory` is on, from there downwards.
    fn add(&self, directory: &Path, mounts: &mut Vec<OwnedFd>) -> Result<usize> {
        let copy = open_tree(AT_FDCWD, directory, OpenTreeFlags::CLONE)
            .map_err(|errno| failed("open_tree", directory, errno))?;
        self.map(&copy, directory)?;
        mounts.push(copy);
        Ok(mounts.len() - 1)
    }

    /// Shows the files of a detached mount, of what is at `path`, through the maps.
    pub(super) fn map(&self, mount: &OwnedFd, path: &Path) -> Result<()> {
        let attributes = MountAttr {
            set: MountAttrFlags::RDONLY,
            propagation: Some(Propagation::Private),
            userns: Some(self.userns.as_fd()),
            ..MountAttr::default()
        };
        mount_setattr(mount, c"", SetAttrFlags::EMPTY_PATH, &attributes).map_err(|errno| match errno {
            Errno::EINVAL => Error::new(ErrorKind::NotSupported, "mount_setattr")
                .path(path)
                .detail("the file system cannot show other owners than it has")
                .source(std::io::Error::from(errno)),
            _ => failed("mount_setattr", path, errno),
        })
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
