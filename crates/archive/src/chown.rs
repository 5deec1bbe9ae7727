//! Giving a tree to the users of another id map.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use graphdriver_sys::FileType;
use graphdriver_sys::xattr::{self, SetFlags};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, renameat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, fchmodat, fstat, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, unlinkat};

use crate::error::{Error, ErrorKind, Result};
use crate::id_map::{IdMaps, OVERFLOW_ID, Owner};
use crate::root::RootDir;
use crate::walk::{Visited, as_path, lstat_at, visit_tree_shared};
use crate::xattrs::{self, IdTranslation, Xattr};

/// Changes the owner of everything in `root`, but not of the root itself ([`chown_root`]): from the host's ids to the container's by `to_container`, and
/// from those to the host's by `to_host`. Empty maps leave ids as they are.
///
/// What belongs to 0:0 and has no place in `to_container` counts as the container's root: a layer below that was never mapped. An id that
/// has no place in `to_host` becomes [`OVERFLOW_ID`]. The ids in ACLs and in namespaced file capabilities change in the same way.
/// Set-id bits and file capabilities, which the kernel takes away when the owner changes, are put back. Each inode is changed once, and its
/// names stay names of one file also on an overlay mount, where changing the owner makes a copy; times stay as they are. Several threads share the
/// work.
///
/// # Errors
/// `InvalidArgument` for an owner that `to_container` does not have, naming the file. `PermissionDenied` without the right to change
/// owners. Else the kind of the failed system call. What was changed until then stays changed.
#[doc(alias = "ChownPathByMaps")]
pub fn chown_tree(root: &RootDir, to_container: &IdMaps, to_host: &IdMaps) -> Result<()> {
    let maps = Maps { to_container, to_host };
    let links = Links { root: root.clone(), first: Default::default() };
    visit_tree_shared(root, |visited| {
        if visited.stat.st_nlink < 2 || FileType::from_mode(visited.stat.st_mode).is_dir() {
            maps.change_entry(visited)
        } else {
            links.change(visited, &maps)
        }
    })
}

/// Changes the owner of the directory `root` itself, as [`chown_tree`] does with what is in it.
///
/// # Errors
/// As [`chown_tree`].
pub fn chown_root(root: &RootDir, to_container: &IdMaps, to_host: &IdMaps) -> Result<()> {
    let failed = |operation, errno| Error::syscall(operation, root.path(), errno);
    let stat = fstat(root).map_err(|errno| failed("fstat", errno))?;
    let attributes = xattrs::of_file(root).map_err(|errno| failed("fgetxattr", errno))?;
    let set =
        |attribute: &Xattr| xattr::fset(root, attribute.name.as_c_str(), &attribute.value, SetFlags::empty());
    let place = Place { dir: root.as_fd(), name: c".", path: b".", stat: &stat };
    Maps { to_container, to_host }.change(place, attributes, set)
}

/// A file whose owner is to change.
#[derive(Clone, Copy)]
struct Place<'a> {
    dir: BorrowedFd<'a>,
    name: &'a CStr,
    /// Of the file, relative to the root.
    path: &'a [u8],
    stat: &'a FileStat,
}

struct Maps<'a> {
    to_container: &'a IdMaps,
    to_host: &'a IdMaps,
}

impl Maps<'_> {
    /// Changes an entry of a directory.
    fn change_entry(&self, visited: &Visited<'_>) -> Result<()> {
        let Visited { dir, name, path, stat } = visited;
        let attributes = xattrs::of_entry(*dir, name);
        let attributes = attributes.map_err(|errno| Error::syscall("lgetxattr", as_path(path), errno))?;
        let set = |attribute: &Xattr| {
            xattr::set_at(
                *dir,
                name.as_c_str(),
                attribute.name.as_c_str(),
                &attribute.value,
                SetFlags::empty(),
            )
        };
        self.change(Place { dir: *dir, name, path, stat }, attributes, set)
    }

    fn change(
        &self,
        place: Place<'_>,
        attributes: Vec<Xattr>,
        set: impl Fn(&Xattr) -> nix::Result<()>,
    ) -> Result<()> {
        let Place { dir, name, path, stat } = place;
        let failed = |operation, errno| Error::syscall(operation, as_path(path), errno);
        let owner = Owner { uid: stat.st_uid, gid: stat.st_gid };
        let new = self.map(owner, path)?;
        let file_type = FileType::from_mode(stat.st_mode);
        if new != owner {
            let (uid, gid) = (Uid::from_raw(new.uid), Gid::from_raw(new.gid));
            fchownat(dir, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
                .map_err(|errno| failed("fchownat", errno))?;
            if stat.st_mode & 0o6000 != 0 && !file_type.is_symlink() {
                let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
                fchmodat(dir, name, mode, FchmodatFlags::NoFollowSymlink)
                    .map_err(|errno| failed("fchmodat", errno))?;
            }
        }
        let ids = IdTranslation {
            uid: &|id| {
                Some(translate(id, self.to_container.uid_to_container(id), |id| self.to_host.uid_to_host(id)))
            },
            gid: &|id| {
                Some(translate(id, self.to_container.gid_to_container(id), |id| self.to_host.gid_to_host(id)))
            },
        };
        for attribute in attributes {
            let is_lost = new != owner && attribute.is_capability();
            let Some(translated) = attribute.clone().translate(&ids) else { continue };
            if is_lost || translated != attribute {
                set(&translated).map_err(|errno| failed("setxattr", errno))?;
            }
        }
        Ok(())
    }

    fn map(&self, owner: Owner, path: &[u8]) -> Result<Owner> {
        let container = match self.to_container.to_container(owner) {
            Some(container) => container,
            None if owner == Owner::default() => owner,
            None => {
                return Err(Error::new(ErrorKind::InvalidArgument, "change owner")
                    .path(as_path(path))
                    .detail(format!("its owner {owner} on the host has no id in the container")));
            }
        };
        Ok(self.to_host.to_host_or_overflow(container))
    }
}

/// An id without place in the container stays what it is.
fn translate(id: u32, in_container: Option<u32>, to_host: impl Fn(u32) -> Option<u32>) -> u32 {
    in_container.map_or(id, |id| to_host(id).unwrap_or(OVERFLOW_ID))
}

/// Files with several names, by device and inode.
type FirstNames = HashMap<(u64, u64), First>;

/// Files with several names. Each is changed once: its other names wait until that is done.
struct Links {
    root: RootDir,
    /// In several parts, so that threads seldom wait for a file that is not theirs.
    first: [Mutex<FirstNames>; 16],
}

/// The name by which a file was changed.
struct First {
    path: Vec<u8>,
    /// The change gave this name an inode of its own.
    moved: bool,
}

impl Links {
    fn change(&self, visited: &Visited<'_>, maps: &Maps<'_>) -> Result<()> {
        let Visited { dir, name, path, stat } = visited;
        let mut names = self.lock(stat.st_ino);
        if let Some(first) = names.get(&(stat.st_dev, stat.st_ino)) {
            return if first.moved { self.relink(first, visited) } else { Ok(()) };
        }
        maps.change_entry(visited)?;
        let now = lstat_at(*dir, name.as_c_str())
            .map_err(|errno| Error::syscall("fstatat", as_path(path), errno))?;
        let moved = (now.st_dev, now.st_ino) != (stat.st_dev, stat.st_ino);
        names.insert((stat.st_dev, stat.st_ino), First { path: path.clone(), moved });
        Ok(())
    }

    fn lock(&self, inode: u64) -> MutexGuard<'_, FirstNames> {
        let part = &self.first[usize::try_from(inode % 16).unwrap_or_default()];
        // What the lock protects is whole at every moment.
        part.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the visited name one of the first name's file. By renaming, so that it is there at every moment.
    fn relink(&self, first: &First, visited: &Visited<'_>) -> Result<()> {
        let Visited { dir, name, path, .. } = visited;
        let failed = |operation, errno| Error::syscall(operation, as_path(path), errno);
        let from = self.root.locate(as_path(&first.path))?;
        let before = fstat(*dir).map_err(|errno| failed("fstat", errno))?;
        let link = |aside: &CStr| linkat(&from.dir, from.name.as_os_str(), *dir, aside, AtFlags::empty());
        let aside = unused_name(link).map_err(|errno| failed("linkat", errno))?;
        renameat(*dir, aside.as_c_str(), *dir, name.as_c_str()).map_err(|errno| {
            // The error that matters is the first one.
            let _ = unlinkat(*dir, aside.as_c_str(), UnlinkatFlags::NoRemoveDir);
            failed("renameat", errno)
        })?;
        // Nothing in the directory is new to those who look at it.
        let modified = TimeSpec::new(before.st_mtime, before.st_mtime_nsec);
        futimens(*dir, &TimeSpec::UTIME_OMIT, &modified).map_err(|errno| failed("futimens", errno))
    }
}

/// Tries names until `create` finds one that is not taken.
fn unused_name(create: impl Fn(&CStr) -> nix::Result<()>) -> nix::Result<CString> {
    for number in 0..u32::MAX {
        let name = CString::new(format!(".graphdriver-link-{number}")).map_err(|_| Errno::EINVAL)?;
        match create(&name) {
            Err(Errno::EEXIST) => {}
            result => return result.map(|()| name),
        }
    }
    Err(Errno::EEXIST)
}
