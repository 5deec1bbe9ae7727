//! Mounting datasets.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use graphdriver_archive::RootDir;
use graphdriver_core::{Error, Result, context_option, unmount_lazily};
use graphdriver_sys::mount_api::{
    FsContext, FsError, MountAttr, MountAttrFlags, Propagation, SetAttrFlags, mount_setattr, move_mount,
};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open, openat};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, statvfs};

use crate::dataset::Dataset;
use crate::mount_options::MountWords;

/// A dataset with what it is to be mounted by.
///
/// Read-only is what the mount is, never the file system: all mounts of a dataset share that, and one that is to be written to would be refused while another is read-only.
#[derive(Debug)]
pub(crate) struct DatasetMount<'a> {
    pub(crate) dataset: &'a Dataset,
    pub(crate) words: &'a MountWords,
    /// SELinux label of all files.
    pub(crate) label: Option<&'a str>,
}

impl DatasetMount<'_> {
    /// Mounts it on the directory `target`, privately: what is mounted below does not spread to other mount namespaces.
    ///
    /// # Errors
    /// `PermissionDenied`; `Io` with `ENOENT` when there is no such dataset.
    pub(crate) fn attach(&self, target: &Path) -> Result<()> {
        match self.descriptor() {
            Ok(descriptor) => {
                let failed = |call| move |errno| Error::syscall(call, target, errno);
                move_mount(&descriptor, AT_FDCWD, target).map_err(failed("move_mount"))
            }
            Err(Lack::Calls) => self.by_path(target),
            Err(Lack::Other(error)) => Err(error.path(target)),
        }
    }

    /// The root directory of the dataset, mounted where nobody else sees it. The mount ends with the descriptor, and so with the process. Where the kernel mounts by path only, the empty
    /// directory `place` is that path for a moment.
    ///
    /// # Errors
    /// As [`attach`](Self::attach).
    pub(crate) fn detached(&self, place: &Path) -> Result<RootDir> {
        let descriptor = match self.descriptor() {
            Ok(descriptor) => descriptor,
            Err(Lack::Calls) => {
                self.by_path(place)?;
                let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                let opened = open(place, flags, Mode::empty());
                let unmounted = unmount_lazily(place);
                let descriptor = opened.map_err(|errno| Error::syscall("open", place, errno))?;
                unmounted?;
                descriptor
            }
            Err(Lack::Other(error)) => return Err(error.path(place)),
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = openat(&descriptor, ".", flags, Mode::empty());
        let root = root.map_err(|errno| Error::syscall("openat", place, errno))?;
        // The only path there is to it.
        let path = format!("/proc/self/fd/{}", root.as_raw_fd());
        Ok(RootDir::from_fd(root, path))
    }

    /// A mount that is attached nowhere.
    fn descriptor(&self) -> Result<OwnedFd, Lack> {
        let context = FsContext::open(c"zfs")?;
        context.set_string(c"source", self.dataset.as_str())?;
        if let Some(label) = self.label {
            context.set_string(c"context", label)?;
        }
        for word in &self.words.data {
            let word = CString::new(word.as_str())
                .map_err(|_| Lack::Other(Error::call("fsconfig", Errno::EINVAL)))?;
            context.set_flag(&word)?;
        }
        context.create()?;
        let descriptor = context.mount(self.words.flags())?;
        make_private(&descriptor)?;
        Ok(descriptor)
    }

    fn by_path(&self, target: &Path) -> Result<()> {
        let failed = |errno| Error::syscall("mount", target, errno);
        let label = self.label.map(context_option).transpose()?;
        let data: Vec<&str> = self.words.data.iter().map(String::as_str).chain(label.as_deref()).collect();
        let data = data.join(",");
        let flags = self.words.classic() - MsFlags::MS_RDONLY;
        mount(Some(self.dataset.as_str()), target, Some("zfs"), flags, Some(data.as_str()))
            .map_err(failed)?;
        let private = mount(None::<&str>, target, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>);
        let read_only = private.and_then(|()| {
            if !self.words.classic().contains(MsFlags::MS_RDONLY) {
                return Ok(());
            }
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | self.words.classic();
            mount(None::<&str>, target, None::<&str>, flags, None::<&str>)
        });
        if let Err(errno) = read_only {
            unmount_lazily(target)?;
            return Err(failed(errno));
        }
        Ok(())
    }
}

/// Why a mount could not be made by descriptors.
enum Lack {
    /// The kernel is too old.
    Calls,
    Other(Error),
}

impl From<FsError> for Lack {
    fn from(error: FsError) -> Self {
        if error.errno == Errno::ENOSYS {
            return Self::Calls;
        }
        Self::Other(Error::call("mount", error.errno).source(error))
    }
}

/// Lets the mount at `target` be written to, if it was made for somebody who only reads; all who have it share it.
///
/// # Errors
/// `PermissionDenied`, `Io`.
pub(crate) fn make_writable(target: &Path) -> Result<()> {
    let failed = |call| move |errno| Error::syscall(call, target, errno);
    let flags = statvfs(target).map_err(failed("statvfs"))?.flags();
    if !flags.contains(FsFlags::ST_RDONLY) {
        return Ok(());
    }
    let attributes = MountAttr { clear: MountAttrFlags::RDONLY, ..MountAttr::default() };
    match mount_setattr(AT_FDCWD, target, SetAttrFlags::empty(), &attributes) {
        Err(Errno::ENOSYS) => {}
        result => return result.map_err(failed("mount_setattr")),
    }
    // This call sets all flags of the mount, so those that it has are said again.
    let kept = [
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
    ];
    let kept = kept.into_iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, kept)| kept);
    let remount = kept.fold(MsFlags::MS_REMOUNT | MsFlags::MS_BIND, |all, flag| all | flag);
    mount(None::<&str>, target, None::<&str>, remount, None::<&str>).map_err(failed("mount"))
}

fn make_private(mount: impl AsFd) -> Result<(), Lack> {
    let attributes = MountAttr { propagation: Some(Propagation::Private), ..MountAttr::default() };
    match mount_setattr(mount, c"", SetAttrFlags::EMPTY_PATH, &attributes) {
        Ok(()) => Ok(()),
        Err(Errno::ENOSYS) => Err(Lack::Calls),
        Err(errno) => Err(Lack::Other(Error::call("mount_setattr", errno))),
    }
}
