//! Subvolumes: trees of files that can be snapshot and destroyed as a whole.
//!
//! A subvolume looks like a directory whose inode number is [`ROOT_INODE`]. It can be renamed like one.

use std::ffi::{CStr, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use bitflags::bitflags;
use nix::errno::Errno;
use nix::sys::stat::fstat;
use nix::sys::statfs::fstatfs;
use nix::{NixPath, Result};

use crate::FileType;

/// Inode number of the root directory of every subvolume.
#[doc(alias = "BTRFS_FIRST_FREE_OBJECTID")]
pub const ROOT_INODE: u64 = 256;

bitflags! {
    /// Properties of a subvolume.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct SubvolumeFlags: u64 {
        /// Nothing in it can be changed, by nobody.
        #[doc(alias = "BTRFS_SUBVOL_RDONLY")]
        const READ_ONLY = 1 << 1;

        const _ = !0;
    }
}

/// The identity of a subvolume that no other one ever has.
pub type Uuid = [u8; 16];

/// What the file system knows of a subvolume.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubvolumeInfo {
    /// The number of its tree, which is also that of its quota group.
    pub id: u64,
    /// Its name in the directory that it lies in.
    pub name: OsString,
    /// The subvolume that it lies in; zero for the top and for one that is being destroyed.
    pub container: u64,
    /// The last transaction that changed its tree's root: it grows with every commit that has changes of it.
    pub generation: u64,
    /// The transaction that made it.
    pub created_at: u64,
    /// Its flags, as the kernel keeps them inside (not those of [`flags`]).
    pub raw_flags: u64,
    /// Its own identity.
    pub uuid: Uuid,
    /// The identity of the subvolume that it is a snapshot of, which may be gone by now.
    pub parent: Option<Uuid>,
    /// The identity of the subvolume elsewhere that it was received from.
    pub received: Option<Uuid>,
}

/// A subvolume inside of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child {
    /// The number of its tree.
    pub id: u64,
    /// Inode number of the directory that it lies in.
    pub directory: u64,
}

/// Whether an open directory (`O_PATH` will do) is the root of a subvolume.
///
/// # Errors
///
/// `EBADF`; what `fstatfs(2)` gives.
pub fn is_subvolume(dir: impl AsFd) -> Result<bool> {
    let stat = fstat(dir.as_fd())?;
    if stat.st_ino != ROOT_INODE || FileType::from_mode(stat.st_mode) != FileType::Directory {
        return Ok(false);
    }
    Ok(fstatfs(dir.as_fd())?.filesystem_type() == nix::sys::statfs::BTRFS_SUPER_MAGIC)
}

/// Makes the empty subvolume `name` in `dir`: owned by the caller, its mode 0777 less the umask.
///
/// Needs the right to write to `dir`, nothing more.
///
/// # Errors
///
/// `ENOTTY` where `dir` is not on btrfs; `EEXIST`, `EACCES`, `EINVAL` (a name with `/`), `ENAMETOOLONG`, `ENOSPC`, `EDQUOT`, `EROFS`.
#[doc(alias = "BTRFS_IOC_SUBVOL_CREATE_V2")]
pub fn create<P: ?Sized + NixPath>(dir: impl AsFd, name: &P) -> Result<()> {
    let arguments = NameArguments::new(name)?;
    // SAFETY: the request reads one `struct btrfs_ioctl_vol_args_v2`, which `arguments` is; without the flag for it no pointer in it is followed.
    unsafe { ioctl::create(dir.as_fd().as_raw_fd(), &raw const *arguments) }.map(drop)
}

/// Makes `name` in `dir` a snapshot of the subvolume whose root `source` is, which must be on the same file system and mount.
///
/// What is written to one of the two from now on is not seen in the other. Subvolumes inside of `source` are empty directories in the snapshot. A limit of the source's quota group becomes one of the
/// snapshot's. Needs the right to write to `dir`, and to own `source`.
///
/// # Errors
///
/// As [`create`]; `EINVAL` when `source` is no root of a subvolume; `EXDEV`; `EPERM` when it belongs to somebody else.
#[doc(alias = "BTRFS_IOC_SNAP_CREATE_V2")]
pub fn snapshot<P: ?Sized + NixPath>(
    dir: impl AsFd,
    name: &P,
    source: impl AsFd,
    flags: SubvolumeFlags,
) -> Result<()> {
    let mut arguments = NameArguments::new(name)?;
    arguments.fd = i64::from(source.as_fd().as_raw_fd());
    arguments.flags = flags.bits();
    // SAFETY: as in `create`.
    unsafe { ioctl::snapshot(dir.as_fd().as_raw_fd(), &raw const *arguments) }.map(drop)
}

/// Destroys the subvolume `name` in `dir`. It is out of sight when this returns; its space becomes free in the background.
///
/// Needs `CAP_SYS_ADMIN` in the initial user namespace, or the mount option `user_subvol_rm_allowed` and to own it. An empty one can be removed by `rmdir(2)` too (Linux 4.18).
///
/// # Errors
///
/// `ENOTTY` where `dir` is not on btrfs; `ENOENT`; `EINVAL` when it is no subvolume (`ENOTDIR` when it is not even a directory); `ENOTEMPTY` while there are subvolumes inside; `EBUSY` when something is
/// mounted in it; `EPERM` for the default subvolume and without the privilege; `ETXTBSY` while it is being sent; `EROFS`.
#[doc(alias = "BTRFS_IOC_SNAP_DESTROY_V2")]
#[doc(alias = "BTRFS_IOC_SNAP_DESTROY")]
pub fn destroy<P: ?Sized + NixPath>(dir: impl AsFd, name: &P) -> Result<()> {
    let raw = dir.as_fd().as_raw_fd();
    let arguments = NameArguments::new(name)?;
    // SAFETY: as in `create`.
    match unsafe { ioctl::destroy(raw, &raw const *arguments) } {
        // Linux 5.7; before, there is the first version only.
        Err(Errno::ENOTTY) => {
            let arguments = FirstNameArguments::new(name)?;
            // SAFETY: the request reads one `struct btrfs_ioctl_vol_args`, which `arguments` is.
            unsafe { ioctl::destroy_first(raw, &raw const *arguments) }.map(drop)
        }
        result => result.map(drop),
    }
}

/// The flags of the subvolume that an open file lies in.
///
/// # Errors
///
/// `ENOTTY` where it is not on btrfs; `EINVAL` when it is not the root of a subvolume.
#[doc(alias = "BTRFS_IOC_SUBVOL_GETFLAGS")]
pub fn flags(root: impl AsFd) -> Result<SubvolumeFlags> {
    let mut flags = 0;
    // SAFETY: the request writes one number of 64 bits, which `flags` is.
    unsafe { ioctl::get_flags(root.as_fd().as_raw_fd(), &raw mut flags) }?;
    Ok(SubvolumeFlags::from_bits_retain(flags))
}

/// Sets the flags of the subvolume whose root is open. Needs to own it.
///
/// # Errors
///
/// As [`flags`]; `EPERM`, `EROFS` (the whole file system); `EOPNOTSUPP` for a flag that cannot be set.
#[doc(alias = "BTRFS_IOC_SUBVOL_SETFLAGS")]
pub fn set_flags(root: impl AsFd, flags: SubvolumeFlags) -> Result<()> {
    let flags = flags.bits();
    // SAFETY: the request reads one number of 64 bits, which `flags` is.
    unsafe { ioctl::set_flags(root.as_fd().as_raw_fd(), &raw const flags) }.map(drop)
}

/// What is known of the subvolume that an open file lies in. Needs no privilege.
///
/// # Errors
///
/// `ENOTTY` where it is not on btrfs, or before Linux 4.18; `ENOENT` for one that was destroyed, or that is being renamed right now.
#[doc(alias = "BTRFS_IOC_GET_SUBVOL_INFO")]
pub fn info(file: impl AsFd) -> Result<SubvolumeInfo> {
    let mut raw = RawInfo { tree: 0, name: [0; NAME_BYTES], ..RawInfo::default() };
    // SAFETY: the request writes one `struct btrfs_ioctl_get_subvol_info_args`, which `raw` is.
    unsafe { ioctl::info(file.as_fd().as_raw_fd(), &raw mut raw) }?;
    let known = |uuid: Uuid| (uuid != Uuid::default()).then_some(uuid);
    Ok(SubvolumeInfo {
        id: raw.tree,
        name: text(&raw.name),
        container: raw.container,
        generation: raw.generation,
        created_at: raw.created_at,
        raw_flags: raw.flags,
        uuid: raw.uuid,
        parent: known(raw.parent_uuid),
        received: known(raw.received_uuid),
    })
}

/// The subvolumes directly inside of the one that an open file lies in, by rising number. Needs no privilege.
///
/// # Errors
///
/// `ENOTTY` where it is not on btrfs, or before Linux 4.18.
#[doc(alias = "BTRFS_IOC_GET_SUBVOL_ROOTREF")]
pub fn children(file: impl AsFd) -> Result<Vec<Child>> {
    let mut children = Vec::new();
    let mut raw = RawChildren::default();
    loop {
        // SAFETY: the request reads and writes one `struct btrfs_ioctl_get_subvol_rootref_args`, which `raw` is.
        let result = unsafe { ioctl::children(file.as_fd().as_raw_fd(), &raw mut raw) };
        // More than one answer holds; it is full then.
        if !matches!(result, Ok(_) | Err(Errno::EOVERFLOW)) {
            result?;
        }
        let found = raw.children.iter().take(raw.count.into());
        children.extend(found.map(|&[id, directory]| Child { id, directory }));
        match children.last() {
            Some(last) if result.is_err() => {
                raw = RawChildren { first: last.id + 1, ..RawChildren::default() }
            }
            _ => return Ok(children),
        }
    }
}

/// Where a [`child`](children) lies below `dir`, which is open in the same subvolume: its path, not resolved through any link.
///
/// Needs the right to read and search the directories on the way.
///
/// # Errors
///
/// `ENOTTY`, as [`children`]; `ENOENT` when it has moved or gone; `EACCES`, also when it does not lie below `dir`; `ENAMETOOLONG` for a path of more than 3,823 bytes.
#[doc(alias = "BTRFS_IOC_INO_LOOKUP_USER")]
pub fn child_path(dir: impl AsFd, child: Child) -> Result<PathBuf> {
    let mut raw =
        RawPath { directory: child.directory, tree: child.id, name: [0; NAME_BYTES], path: [0; PATH_BYTES] };
    // SAFETY: the request reads and writes one `struct btrfs_ioctl_ino_lookup_user_args`, which `raw` is.
    unsafe { ioctl::child_path(dir.as_fd().as_raw_fd(), &raw mut raw) }?;
    Ok(PathBuf::from(text(&raw.path)).join(text(&raw.name)))
}

/// Bytes of a name, with its NUL.
const NAME_BYTES: usize = 256;
const PATH_BYTES: usize = 4080 - NAME_BYTES;

/// The bytes before the first NUL.
fn text(bytes: &[u8]) -> OsString {
    let bytes = CStr::from_bytes_until_nul(bytes).map_or(bytes, CStr::to_bytes);
    OsString::from_vec(bytes.to_vec())
}

/// `struct btrfs_ioctl_vol_args_v2`.
#[derive(Clone, Copy)]
#[repr(C)]
struct NameArguments {
    fd: i64,
    transaction: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

impl NameArguments {
    fn new<P: ?Sized + NixPath>(name: &P) -> Result<Box<Self>> {
        let mut new = Box::new(Self { fd: 0, transaction: 0, flags: 0, unused: [0; 4], name: [0; 4040] });
        put_name(&mut new.name, name)?;
        Ok(new)
    }
}

/// `struct btrfs_ioctl_vol_args`.
#[derive(Clone, Copy)]
#[repr(C)]
struct FirstNameArguments {
    fd: i64,
    name: [u8; 4088],
}

impl FirstNameArguments {
    fn new<P: ?Sized + NixPath>(name: &P) -> Result<Box<Self>> {
        let mut new = Box::new(Self { fd: 0, name: [0; 4088] });
        put_name(&mut new.name, name)?;
        Ok(new)
    }
}

fn put_name<P: ?Sized + NixPath>(to: &mut [u8], name: &P) -> Result<()> {
    name.with_nix_path(|name| {
        let name = OsStr::from_bytes(name.to_bytes_with_nul()).as_bytes();
        to.get_mut(..name.len()).ok_or(Errno::ENAMETOOLONG)?.copy_from_slice(name);
        Ok(())
    })?
}

/// `struct btrfs_ioctl_get_subvol_info_args`.
#[derive(Clone, Copy)]
#[repr(C)]
struct RawInfo {
    tree: u64,
    name: [u8; NAME_BYTES],
    container: u64,
    directory: u64,
    generation: u64,
    flags: u64,
    uuid: Uuid,
    parent_uuid: Uuid,
    received_uuid: Uuid,
    changed_at: u64,
    created_at: u64,
    sent_at: u64,
    received_at: u64,
    times: [[u64; 2]; 4],
    reserved: [u64; 8],
}

impl Default for RawInfo {
    fn default() -> Self {
        Self {
            tree: 0,
            name: [0; NAME_BYTES],
            container: 0,
            directory: 0,
            generation: 0,
            flags: 0,
            uuid: Uuid::default(),
            parent_uuid: Uuid::default(),
            received_uuid: Uuid::default(),
            changed_at: 0,
            created_at: 0,
            sent_at: 0,
            received_at: 0,
            times: [[0; 2]; 4],
            reserved: [0; 8],
        }
    }
}

/// `struct btrfs_ioctl_get_subvol_rootref_args`.
#[derive(Clone, Copy)]
#[repr(C)]
struct RawChildren {
    first: u64,
    children: [[u64; 2]; 255],
    count: u8,
    padding: [u8; 7],
}

impl Default for RawChildren {
    fn default() -> Self {
        Self { first: 0, children: [[0; 2]; 255], count: 0, padding: [0; 7] }
    }
}

/// `struct btrfs_ioctl_ino_lookup_user_args`.
#[derive(Clone, Copy)]
#[repr(C)]
struct RawPath {
    directory: u64,
    tree: u64,
    name: [u8; NAME_BYTES],
    path: [u8; PATH_BYTES],
}

mod ioctl {
    use super::{FirstNameArguments, NameArguments, RawChildren, RawInfo, RawPath};

    nix::ioctl_write_ptr!(destroy_first, 0x94, 15, FirstNameArguments);
    nix::ioctl_write_ptr!(snapshot, 0x94, 23, NameArguments);
    nix::ioctl_write_ptr!(create, 0x94, 24, NameArguments);
    nix::ioctl_read!(get_flags, 0x94, 25, u64);
    nix::ioctl_write_ptr!(set_flags, 0x94, 26, u64);
    nix::ioctl_read!(info, 0x94, 60, RawInfo);
    nix::ioctl_readwrite!(children, 0x94, 61, RawChildren);
    nix::ioctl_readwrite!(child_path, 0x94, 62, RawPath);
    nix::ioctl_write_ptr!(destroy, 0x94, 63, NameArguments);
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;
    use crate::test_dir;

    #[test]
    fn laid_out_as_the_kernel_has_it() {
        assert_eq!((size_of::<NameArguments>(), offset_of!(NameArguments, name)), (4096, 56));
        assert_eq!(size_of::<FirstNameArguments>(), 4096);
        assert_eq!((size_of::<RawInfo>(), offset_of!(RawInfo, uuid)), (504, 296));
        assert_eq!((offset_of!(RawInfo, created_at), offset_of!(RawInfo, times)), (352, 376));
        assert_eq!((size_of::<RawChildren>(), offset_of!(RawChildren, count)), (4096, 4088));
        assert_eq!((size_of::<RawPath>(), offset_of!(RawPath, path)), (4096, 272));
    }

    #[test]
    fn names_fit_or_are_refused() {
        let arguments = NameArguments::new("layer").unwrap();
        assert_eq!(text(&arguments.name), "layer");
        assert_eq!(NameArguments::new(&*"n".repeat(4040)).err(), Some(Errno::ENAMETOOLONG));
        assert_eq!(NameArguments::new("a\0b").err(), Some(Errno::EINVAL));
    }

    #[test]
    fn elsewhere_there_are_none() {
        let dir = test_dir::on_tmpfs();
        let open = test_dir::open(dir.path());
        assert_eq!(is_subvolume(&open), Ok(false));
        assert_eq!(create(&open, "name"), Err(Errno::ENOTTY));
        assert_eq!(snapshot(&open, "name", &open, SubvolumeFlags::empty()), Err(Errno::ENOTTY));
        assert_eq!(destroy(&open, "name"), Err(Errno::ENOTTY));
        assert_eq!(flags(&open), Err(Errno::ENOTTY));
        assert_eq!(info(&open), Err(Errno::ENOTTY));
        assert_eq!(children(&open), Err(Errno::ENOTTY));
        assert_eq!(child_path(&open, Child { id: 1, directory: 1 }), Err(Errno::ENOTTY));
    }
}
