//! Where trials work: file systems in memory that nobody else sees.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use graphdriver_sys::{user_namespace, xattr};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Uid;
use tempfile::TempDir;

use crate::needs::{self, Need};
use crate::peer::{self, run};

/// A directory in a mount namespace of this process alone.
///
/// Whatever this process and the programs that it starts mount is gone when it ends, in whatever way; all that a killed one leaves is an empty directory.
pub(crate) struct Stage {
    dir: TempDir,
    usable: Result<(), Need>,
    made: AtomicU32,
}

/// A tmpfs of its own for one piece of work.
///
/// Dropped, it goes with all that is mounted below it: containers/storage leaves its home bind-mounted on itself.
pub(crate) struct Scratch {
    path: PathBuf,
}

/// An upper bound for mistakes. The most that a trial needs are four copies of the layers, 3 GB, in the vfs driver.
const SIZE: &str = "size=6g,mode=755";

/// The same for layers that share what they have in common.
const BTRFS_BYTES: u64 = 4 << 30;

impl Stage {
    /// Enters a mount namespace of its own where that is allowed. Must be called before the first thread starts.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("graphdriver-interop-").tempdir().unwrap();
        let mut stage = Self { dir, usable: Ok(()), made: AtomicU32::new(0) };
        stage.usable = stage.enter();
        stage
    }

    fn enter(&self) -> Result<(), Need> {
        if !Uid::effective().is_root() || !user_namespace::in_initial().unwrap() {
            return Err(Need::Root);
        }
        unshare(CloneFlags::CLONE_NEWNS).map_err(|_| Need::Root)?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        mount_tmpfs(self.dir.path());
        let probe = self.scratch()?;
        File::create(probe.path().join("file")).unwrap();
        let dir = File::open(probe.path()).unwrap();
        xattr::set_at(&dir, "file", "user.probe", b"", xattr::SetFlags::empty())
            .map_err(|_| Need::Kernel("attributes user.* on tmpfs came with Linux 6.6"))
    }

    /// An empty file system on which the driver works.
    pub(crate) fn scratch_for(&self, driver: &str) -> Result<Scratch, Need> {
        if driver != "btrfs" {
            return self.scratch();
        }
        self.usable.clone()?;
        needs::program("mkfs.btrfs")?;
        let path = self.new_dir();
        let image = self.dir.path().join(format!("image-{}", self.made.fetch_add(1, Ordering::Relaxed)));
        File::create_new(&image).unwrap().set_len(BTRFS_BYTES).unwrap();
        run(peer::program("mkfs.btrfs").args(["-q", "-f"]).arg(&image));
        run(peer::program("mount").args(["-t", "btrfs", "-o", "loop"]).arg(&image).arg(&path));
        // The device has it open as long as it is mounted.
        fs::remove_file(&image).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        Ok(Scratch { path })
    }

    /// An empty file system.
    pub(crate) fn scratch(&self) -> Result<Scratch, Need> {
        self.usable.clone()?;
        let path = self.new_dir();
        mount_tmpfs(&path);
        Ok(Scratch { path })
    }

    fn new_dir(&self) -> PathBuf {
        let path = self.dir.path().join(self.made.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir(&path).unwrap();
        path
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Where nothing was mounted there is nothing to report either.
        let _ = umount2(self.dir.path(), MntFlags::MNT_DETACH);
    }
}

fn mount_tmpfs(dir: &Path) {
    mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), Some(SIZE)).unwrap();
}

impl Scratch {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A path in it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A new directory in it.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        fs::create_dir(&path).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let unmounted = umount2(&self.path, MntFlags::MNT_DETACH);
        let removed = unmounted.map_err(std::io::Error::from).and_then(|()| fs::remove_dir(&self.path));
        if let Err(error) = removed {
            eprintln!("{}: {error}", self.path.display());
        }
    }
}
