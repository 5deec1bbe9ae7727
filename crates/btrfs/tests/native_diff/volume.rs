//! A btrfs of its own for each test, with a home on it.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use graphdriver_archive::{self as archive, Change, CompareOptions, ContentCheck, RootDir};
use graphdriver_btrfs::Btrfs;
use graphdriver_core::{CreateOptions, DriverHome, Graph, LayerId, OpenOptions};
use nix::mount::{MntFlags, umount2};

pub(crate) struct Volume {
    pub(crate) graph: Graph,
    dir: tempfile::TempDir,
}

pub(crate) fn id(text: &str) -> LayerId {
    text.parse().unwrap()
}

impl Volume {
    /// With these mount options besides `loop`.
    pub(crate) fn new(mount_options: &str) -> Self {
        let image = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
        File::set_len(image.as_file(), 1 << 30).unwrap();
        run(Command::new("mkfs.btrfs").arg("-q").arg(image.path()));
        let dir = tempfile::tempdir().unwrap();
        let options = format!("loop{mount_options}");
        run(Command::new("mount").args(["-t", "btrfs", "-o", &options]).arg(image.path()).arg(dir.path()));
        let place = OpenOptions::new(dir.path().join("root"), dir.path().join("run"));
        let driver = Btrfs::open(&DriverHome::new("btrfs", &place).unwrap()).unwrap();
        Self { graph: Graph::new(Arc::new(driver)), dir }
    }

    /// The root of a layer's files.
    pub(crate) fn layer(&self, layer: &str) -> PathBuf {
        self.dir.path().join("root/btrfs/subvolumes").join(layer)
    }

    pub(crate) fn create(&self, layer: &str, parent: Option<&str>) -> PathBuf {
        let options = CreateOptions { parent: parent.map(id), ..CreateOptions::default() };
        self.graph.create(&id(layer), &options).unwrap();
        self.layer(layer)
    }

    pub(crate) fn remove(&self, layer: &str) {
        self.graph.remove(&id(layer)).unwrap();
    }

    /// What the driver itself finds; `None` when it leaves that to walking both trees.
    pub(crate) fn native(&self, layer: &str, base: &str) -> Option<Vec<Change>> {
        let driver = self.graph.driver();
        driver.native_diff().unwrap().changes(&id(layer), Some(&id(base))).unwrap()
    }

    /// What comparing everything in both trees finds, contents included.
    pub(crate) fn compared(&self, layer: &str, base: &str) -> Vec<Change> {
        let open = |layer| RootDir::open(self.layer(layer)).unwrap();
        let options = CompareOptions { content: ContentCheck::Content, ..CompareOptions::default() };
        archive::changes(&open(layer), Some(&open(base)), &options).unwrap()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if let Err(errno) = umount2(self.dir.path(), MntFlags::MNT_DETACH) {
            eprintln!("unmount {:?}: {errno}", self.dir.path());
        }
    }
}

pub(crate) fn run(command: &mut Command) {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = command.env("PATH", format!("{path}:/usr/sbin:/sbin")).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
