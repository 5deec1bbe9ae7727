//! Making an overlay mount, whatever the paths and however many layers.
//!
//! Two ways ([`MountApi`]): the file-system context of newer kernels, and mount(2). Which one the kernel takes, and which
//! parameters it knows, is found by [`probe`](crate::probe) and held in a [`Dialect`].

mod attributes;
mod classic;
mod composed;
mod context;
mod id_mapped;
mod image;
mod namespace;
mod options;
mod parameters;

use std::borrow::Cow;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use graphdriver_archive::whiteout::OverlayXattrs;
use graphdriver_archive::{self as archive, RootDir};
use graphdriver_core::{Error, ErrorKind, Result};
use graphdriver_sys::mount_api::{
    MountAttr, OpenTreeFlags, Propagation, SetAttrFlags, mount_setattr, move_mount, open_tree,
};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;

use namespace::Stage;

pub(crate) use attributes::Attributes;
pub use composed::IdMapping;
pub(crate) use composed::{Composed, Part, Shown};
pub(crate) use context::{is_there, knows_userxattr};
pub(crate) use image::{check_image, is_plain_image, open_image};
pub(crate) use options::{MountRequest, merge};
pub(crate) use parameters::{Parameters, RedirectDir, Shape, Wishes};

/// The longest string that `fsconfig(2)` takes, in bytes.
const MAX_STRING: usize = 255;

/// How long directories that are in use are waited for, in all 0.6 seconds.
const PAUSES_MS: [u64; 6] = [10, 20, 40, 80, 160, 320];

pub(crate) const NEEDS_PRIVILEGE: &str =
    "mounting needs root, of the host or (from Linux 5.11) of a user namespace";

/// How overlay mounts are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountApi {
    /// A file-system context (`fsopen(2)`) and one `lowerdir+` parameter for each layer: Linux 6.7.
    FsContext,
    /// `mount(2)` with all layers in one string, which may be as long as a memory page. Where it would be longer, the
    /// directories are opened and named by the numbers of their descriptors.
    Mount,
}

/// What the kernel that runs understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dialect {
    pub(crate) api: MountApi,
    /// `redirect_dir`, `metacopy` and `index` are known (Linux 4.19), so they can be switched off.
    pub(crate) switches: bool,
    /// `volatile` is known (Linux 5.10).
    pub(crate) volatile: bool,
    /// Where overlay keeps its marks. In a user namespace mounts need the parameter `userxattr` (Linux 5.11).
    pub(crate) xattrs: OverlayXattrs,
}

/// An overlay mount to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OverlayMount<'a> {
    /// The directories below, uppermost first; at least one, at least two where there is neither an upper directory nor a data-only one.
    pub(crate) lowers: &'a [Cow<'a, Path>],
    /// Directories below those (Linux 6.5) whose files are seen only where one above them refers to them by name.
    pub(crate) data_only: &'a [Cow<'a, Path>],
    /// Where what is written goes.
    pub(crate) upper: Option<Upper<'a>>,
    /// The directory to mount on; absolute.
    pub(crate) target: &'a Path,
    /// Overlay's own parameters.
    pub(crate) parameters: &'a Parameters,
    /// SELinux label for all files; may have commas.
    pub(crate) label: Option<&'a str>,
    /// Read-only and the like.
    pub(crate) attributes: Attributes,
}

/// The writable part of an overlay mount.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upper<'a> {
    pub(crate) directory: &'a Path,
    /// Overlay's own directory, on the same file system.
    pub(crate) work: &'a Path,
}

impl OverlayMount<'_> {
    /// Makes the mount, with private propagation: what is mounted inside stays in this mount namespace.
    ///
    /// # Errors
    /// `InvalidArgument` for a label that cannot be one; otherwise by the error number, with the kernel's own words where it has any:
    /// `PermissionDenied`, `NotSupported` when there is no overlay in this kernel, else `Io`.
    pub(crate) fn attach(&self, api: MountApi) -> Result<()> {
        match api {
            MountApi::FsContext => attach_detached(&self.detached(api)?, self.target),
            MountApi::Mount => {
                self.prepare()?;
                patiently(|| classic::attach(self))
            }
        }
    }

    /// Makes the mount and attaches it nowhere: it is used through the descriptor and ends with it. The target must be a directory all the same.
    ///
    /// # Errors
    /// As [`attach`](Self::attach).
    pub(crate) fn detached(&self, api: MountApi) -> Result<OwnedFd> {
        match api {
            MountApi::FsContext => {
                self.prepare()?;
                patiently(|| context::detached(self))
            }
            MountApi::Mount => namespace::run(self.target, |stage| self.detached_on(stage, api)),
        }
    }

    /// Like [`detached`](Self::detached), where there is a stage already.
    fn detached_on(&self, stage: &Stage<'_>, api: MountApi) -> Result<OwnedFd> {
        if api == MountApi::FsContext {
            return self.detached(api);
        }
        // mount(2) makes none but attached mounts.
        let target = stage.directory("merged")?;
        let mounted = OverlayMount { target: &target, ..*self }.attach(api);
        mounted.map_err(|error| error.path(self.target))?;
        open_tree(AT_FDCWD, &target, OpenTreeFlags::CLONE)
            .map_err(|errno| failed("open_tree", self.target, errno))
    }

    fn prepare(&self) -> Result<()> {
        if let Some(label) = self.label {
            check_label(label)?;
        }
        self.upper.map_or(Ok(()), |upper| forget_volatile(upper.work))
    }
}

/// Makes a mount again while its directories are in use. With `index=on` the kernel refuses a directory that another overlay mount has, and a mount namespace that ended
/// lets go of its mounts a moment later.
fn patiently<T>(make: impl Fn() -> Result<T>) -> Result<T> {
    for pause in PAUSES_MS.map(Duration::from_millis) {
        match make() {
            Err(error) if error.errno() == Some(Errno::EBUSY) => thread::sleep(pause),
            result => return result,
        }
    }
    make()
}

/// Quotes would end the label in the middle of it.
fn check_label(label: &str) -> Result<()> {
    if label.contains(['"', '\0', '\n']) {
        let detail = format!("a label has neither quotes nor line ends: {label:?}");
        return Err(Error::new(ErrorKind::InvalidArgument, "mount overlay").detail(detail));
    }
    Ok(())
}

/// Removes the mark that a volatile mount leaves, for which the kernel would refuse to use the directories again.
fn forget_volatile(work: &Path) -> Result<()> {
    let mark = Path::new("work/incompat/volatile");
    if fs::symlink_metadata(work.join(mark)).is_err() {
        return Ok(());
    }
    Ok(RootDir::open(work)?.remove_all(mark)?)
}

/// Unmounts what is mounted at `target`, now or when the last file in it is closed. Nothing being mounted is fine.
pub(crate) fn detach(target: &Path) -> Result<()> {
    match umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(errno) => Err(Error::syscall("umount2", target, errno)),
    }
}

/// Attaches a mount at `target`, with private propagation.
fn attach_detached(detached: &OwnedFd, target: &Path) -> Result<()> {
    move_mount(detached, open_directory(target)?, c"")
        .map_err(|errno| failed("move_mount", target, errno))?;
    // Below a shared mount the new one became shared when it was attached.
    let private = MountAttr { propagation: Some(Propagation::Private), ..MountAttr::default() };
    mount_setattr(detached, c"", SetAttrFlags::EMPTY_PATH, &private).map_err(|errno| {
        if let Err(error) = detach(target) {
            tracing::warn!(error = %error.report(), "a mount that is not private stays");
        }
        failed("mount_setattr", target, errno)
    })
}

/// A directory to be named in a mount.
fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).map_err(|errno| Error::syscall("open", path, errno))
}

/// `path` with a backslash before each byte of `special`, which overlay takes away again.
fn escape(path: &Path, special: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(path.as_os_str().len());
    for byte in path.as_os_str().as_bytes() {
        if special.contains(byte) {
            escaped.push(b'\\');
        }
        escaped.push(*byte);
    }
    escaped
}

/// The failure of `call` while mounting at `target`.
fn failed(call: &'static str, target: &Path, errno: Errno) -> Error {
    let error = Error::new(kind(errno), call).path(target).source(io::Error::from(errno));
    match errno {
        Errno::ENODEV => error.detail("the kernel has no overlay file system; its module may be missing"),
        Errno::EPERM => error.detail(NEEDS_PRIVILEGE),
        _ => error,
    }
}

fn kind(errno: Errno) -> ErrorKind {
    match errno {
        Errno::ENODEV => ErrorKind::NotSupported,
        _ => archive::ErrorKind::of_errno(errno).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        check_label("system_u:object_r:container_file_t:s0:c1,c2").unwrap();
        for label in ["a\"b", "\"", "a\nb", "a\0"] {
            assert_eq!(check_label(label).unwrap_err().kind(), ErrorKind::InvalidArgument, "{label:?}");
        }
    }

    #[test]
    fn special_bytes_get_a_backslash() {
        for (path, expected) in [
            ("/plain/path with space", "/plain/path with space"),
            ("/a:b,c\\d", "/a\\:b\\,c\\\\d"),
            ("/new\nline\"'", "/new\nline\"'"),
        ] {
            assert_eq!(escape(Path::new(path), b"\\:,"), expected.as_bytes());
        }
    }
}
