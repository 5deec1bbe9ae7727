//! Mounts that nobody is to see.

use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use graphdriver_core::{Error, Result};
use graphdriver_sys::mount_api::move_mount;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::{failed, open_directory};

/// A small file system for mount points, mounted over a directory in a mount namespace of its own.
pub(super) struct Stage<'a> {
    root: &'a Path,
}

/// Runs `work` in a thread with a mount namespace of its own, where `root` is a [`Stage`].
///
/// The namespace ends with the thread, even with one that is killed, and what is mounted in it with the namespace: nothing is left that would have to be unmounted.
///
/// # Errors
/// That of `work`; `PermissionDenied`, `Io`.
pub(super) fn run<T: Send>(root: &Path, work: impl FnOnce(&Stage<'_>) -> Result<T> + Send) -> Result<T> {
    let in_namespace = || {
        unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| failed("unshare", root, errno))?;
        work(&Stage::set(root)?)
    };
    thread::scope(|scope| {
        let spawned =
            thread::Builder::new().name("overlay mount".to_owned()).spawn_scoped(scope, in_namespace);
        let thread = spawned.map_err(|error| Error::io("start thread to mount", root, error))?;
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

impl<'a> Stage<'a> {
    fn set(root: &'a Path) -> Result<Self> {
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
            .map_err(|errno| failed("make mounts private", root, errno))?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("stage"), root, Some("tmpfs"), flags, Some("mode=0700,size=1m"))
            .map_err(|errno| failed("mount tmpfs", root, errno))?;
        Ok(Self { root })
    }

    /// Attaches detached mounts; tells where.
    pub(super) fn attach(&self, parts: &[OwnedFd]) -> Result<Vec<PathBuf>> {
        let attach = |(index, part): (usize, &OwnedFd)| {
            let path = self.directory(&index.to_string())?;
            let moved = move_mount(part, open_directory(&path)?, c"");
            moved.map(|()| path).map_err(|errno| failed("move_mount", self.root, errno))
        };
        parts.iter().enumerate().map(attach).collect()
    }

    /// A new directory, to mount on.
    pub(super) fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join(name);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map(|()| path.clone()).map_err(|error| Error::io("mkdir", path, error))
    }
}
