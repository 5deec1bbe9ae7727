//! A btrfs of its own for each test, with a home on it.

use std::path::PathBuf;
use std::sync::Arc;

use graphdriver_archive::{self as archive, Change, CompareOptions, ContentCheck, RootDir};
use graphdriver_btrfs::Btrfs;
use graphdriver_core::{CreateOptions, DriverHome, Graph, LayerId, OpenOptions};

use crate::test_volume::TestVolume;

pub(crate) struct Volume {
    pub(crate) graph: Graph,
    dir: TestVolume,
}

pub(crate) fn id(text: &str) -> LayerId {
    text.parse().unwrap()
}

impl Volume {
    /// Mounted with these options besides `loop`.
    pub(crate) fn new(mount_options: &str) -> Self {
        let dir = TestVolume::new(mount_options);
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
