//! A btrfs in memory, with a home on it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use graphdriver_btrfs::Btrfs;
use graphdriver_core::{CreateOptions, DriverHome, DriverOption, Graph, LayerId, OpenOptions, Result};

use crate::test_volume::{TestVolume, run};

pub(crate) struct Volume {
    dir: TestVolume,
}

pub(crate) fn id(text: &str) -> LayerId {
    text.parse().unwrap()
}

pub(crate) fn open_at(dir: &Path, options: &[&str]) -> Result<Graph> {
    let options = options.iter().map(|text| text.parse::<DriverOption>().unwrap());
    let place = OpenOptions::new(dir.join("root"), dir.join("run")).with_options(options);
    Ok(Graph::new(Arc::new(Btrfs::open(&DriverHome::new("btrfs", &place)?)?)))
}

impl Volume {
    pub(crate) fn new() -> Self {
        Self { dir: TestVolume::new("") }
    }

    pub(crate) fn open(&self) -> Graph {
        open_at(self.dir.path(), &[]).unwrap()
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("root/btrfs")
    }

    /// The root of a layer's files.
    pub(crate) fn layer(&self, layer: &str) -> PathBuf {
        self.home().join("subvolumes").join(layer)
    }

    /// The subvolumes that are left, by their paths.
    pub(crate) fn subvolumes(&self) -> Vec<String> {
        let listed = run(Command::new("btrfs").args(["subvolume", "list"]).arg(self.path()));
        let mut paths: Vec<String> =
            listed.lines().filter_map(|line| Some(line.split_once(" path ")?.1.to_owned())).collect();
        paths.sort();
        paths
    }
}

pub(crate) fn create(graph: &Graph, layer: &str, parent: Option<&str>) {
    let options = CreateOptions { parent: parent.map(id), ..CreateOptions::default() };
    graph.create(&id(layer), &options).unwrap();
}

/// `btrfs subvolume WORDS`, the last of which is a path.
pub(crate) fn subvolume(words: &[&str], paths: &[&Path]) {
    run(Command::new("btrfs").arg("subvolume").args(words).args(paths));
}
