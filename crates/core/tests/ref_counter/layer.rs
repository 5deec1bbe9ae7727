//! One layer whose mount is a tmpfs.

use std::fs;
use std::path::{Path, PathBuf};

use graphdriver_core::{
    Error, FsMagic, FsMagicChecker, LayerId, MountChecker, MountInfoChecker, RefCounter, Result, mount_info,
    unmount_lazily,
};
use nix::mount::{MsFlags, mount};

/// A place for a layer's mount and its record.
pub(crate) struct Place {
    temp: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("merged")).unwrap();
        Self { temp }
    }

    pub(crate) fn path(&self) -> &Path {
        self.temp.path()
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.path().join("merged")
    }

    /// How many mounts are stacked at the mount point, as the kernel tells it.
    pub(crate) fn mounts(&self) -> usize {
        mounts_at(&self.target())
    }

    /// Whether any record is left.
    pub(crate) fn has_record(&self) -> bool {
        fs::read_dir(self.path().join("run")).unwrap().next().is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        while self.mounts() > 0 {
            unmount_lazily(&self.target()).unwrap();
        }
    }
}

/// One user of a layer: a reference counter, as each process has one.
pub(crate) struct Layer {
    counter: RefCounter,
    id: LayerId,
    target: PathBuf,
}

impl Layer {
    pub(crate) fn new(place: &Path) -> Self {
        Self::with_checker(place, Box::new(FsMagicChecker::new([FsMagic::OVERLAY, FsMagic::TMPFS])))
    }

    pub(crate) fn with_mount_table(place: &Path) -> Self {
        Self::with_checker(place, Box::new(MountInfoChecker))
    }

    fn with_checker(place: &Path, checker: Box<dyn MountChecker>) -> Self {
        let counter = RefCounter::new(checker, place.join("run")).unwrap();
        Self { counter, id: "layer".parse().unwrap(), target: place.join("merged") }
    }

    pub(crate) fn counter(&self) -> &RefCounter {
        &self.counter
    }

    /// Takes a reference; whether that mounted.
    pub(crate) fn acquire(&self) -> Result<bool> {
        self.take(false, None)
    }

    /// Takes a reference to a mount made in this manner.
    pub(crate) fn acquire_in(&self, manner: &str) -> Result<bool> {
        self.take(false, Some(manner))
    }

    pub(crate) fn acquire_persistent(&self) -> Result<bool> {
        self.take(true, None)
    }

    fn take(&self, persistent: bool, manner: Option<&str>) -> Result<bool> {
        let mut ran = false;
        let mount = || {
            ran = true;
            mount_tmpfs(&self.target)
        };
        let (counter, id, target) = (&self.counter, &self.id, &self.target);
        match manner {
            Some(manner) => counter.acquire_in(id, target, persistent, manner, mount)?,
            None => counter.acquire(id, target, persistent, mount)?,
        }
        assert_eq!(mounts_at(&self.target), 1, "mounted exactly once while there is a reference");
        Ok(ran)
    }

    /// Gives a reference back; whether that unmounted.
    pub(crate) fn release(&self) -> Result<bool> {
        let mut ran = false;
        self.counter.release(&self.id, &self.target, || {
            ran = true;
            unmount(&self.target)
        })?;
        Ok(ran)
    }

    pub(crate) fn while_unused(&self, work: impl FnOnce()) -> Result<()> {
        self.counter.while_unused(&self.id, &self.target, || {
            assert_eq!(mounts_at(&self.target), 0);
            work();
            assert_eq!(mounts_at(&self.target), 0);
            Ok(())
        })
    }

    pub(crate) fn reclaim(&self) -> Result<bool> {
        self.counter.reclaim(&self.id, &self.target, || unmount(&self.target))
    }
}

/// Mounts where nothing is mounted.
pub(crate) fn mount_tmpfs(target: &Path) -> Result<()> {
    assert_eq!(mounts_at(target), 0, "mounted over a mount");
    mount(Some("layer"), target, Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .map_err(|errno| Error::syscall("mount", target, errno))
}

fn unmount(target: &Path) -> Result<()> {
    assert_eq!(mounts_at(target), 1, "unmounted what is not mounted");
    unmount_lazily(target)
}

fn mounts_at(target: &Path) -> usize {
    mount_info::mounts().unwrap().iter().filter(|mount| mount.mount_point == target).count()
}
