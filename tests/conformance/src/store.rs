//! A home of its own for each case, and what cases do most.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use graphdriver_archive::{IdMaps, RootDir};
use graphdriver_core::{
    Applied, CreateOptions, ErrorKind, Graph, LayerApplyOptions, LayerId, LayerKind, MountOptions, Result,
};

use crate::backing::{Backing, mounts_below};
use crate::configuration::Configuration;
use crate::needs::Need;
use crate::tree::{Times, Tree};
use crate::trials::Experiment;

/// An opened driver with an empty home.
pub struct Store {
    graph: Graph,
    configuration: &'static Configuration,
    backing: Backing,
    dir: PathBuf,
}

/// The layer called `text`.
pub fn id(text: &str) -> LayerId {
    text.parse().unwrap()
}

/// Checks that `result` failed, and with this kind.
#[track_caller]
pub fn fails<T>(result: Result<T>, kind: ErrorKind) -> String {
    match result {
        Ok(_) => panic!("succeeded where {kind:?} was expected"),
        Err(error) => {
            assert_eq!(error.kind(), kind, "{}", error.report());
            error.report().to_string()
        }
    }
}

impl Store {
    pub fn open(experiment: &Experiment, dir: PathBuf) -> std::result::Result<Self, Need> {
        let Experiment { configuration, backing, .. } = *experiment;
        match configuration.open(&dir) {
            Ok(graph) if configuration.mounts_through_id_maps && !graph.capabilities().id_shifting => {
                let status = graph.status().unwrap();
                let reason = status.into_iter().find(|(key, _)| key == "Supports shifting");
                Err(Need::Kernel(format!("mounts through id maps on {}: {reason:?}", backing.name())))
            }
            Ok(graph) => Ok(Self { graph, configuration, backing, dir }),
            // Only of the file system that the machine happens to have can it be said that a driver need not work on it.
            Err(error) if backing == Backing::Here && error.kind().is_unsupported() => {
                Err(Need::FileSystem(error.report().to_string()))
            }
            Err(error) => panic!("open {}: {}", configuration.name, error.report()),
        }
    }

    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    pub fn configuration(&self) -> &'static Configuration {
        self.configuration
    }

    pub fn backing(&self) -> Backing {
        self.backing
    }

    /// The directory of the case, on the backing file system, with the home somewhere below.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The driver's home.
    pub fn home(&self) -> PathBuf {
        self.configuration.home_in(&self.dir.join("root"))
    }

    /// Waits until the file system's clock has moved on, for drivers that can tell two versions of a file only by their times.
    pub fn tick(&self) {
        if !self.configuration.finds_restored_times {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// The home as the `index`th of several users has it: half of them share one opening, the others have their own.
    pub fn opening(&self, index: usize) -> Graph {
        if index.is_multiple_of(2) { self.graph.clone() } else { self.reopen() }
    }

    /// Opens the home a second time, as another program would.
    pub fn reopen(&self) -> Graph {
        self.configuration.open(&self.dir).unwrap()
    }

    #[track_caller]
    pub fn create(&self, name: &str, parent: Option<&LayerId>) -> LayerId {
        let id = id(name);
        let options =
            CreateOptions { parent: parent.cloned(), kind: LayerKind::ReadWrite, ..CreateOptions::default() };
        self.graph.create(&id, &options).unwrap();
        id
    }

    /// A layer filled from an archive.
    #[track_caller]
    pub fn fill(&self, name: &str, parent: Option<&LayerId>, archive: &[u8]) -> LayerId {
        let id = id(name);
        self.try_fill(&id, parent, &mut &*archive).unwrap();
        id
    }

    pub fn try_fill(
        &self,
        id: &LayerId,
        parent: Option<&LayerId>,
        archive: &mut dyn Read,
    ) -> Result<Applied> {
        let options = CreateOptions { parent: parent.cloned(), ..CreateOptions::default() };
        self.graph.create_filled(id, &options, archive, &LayerApplyOptions::default())
    }

    #[track_caller]
    pub fn apply(&self, id: &LayerId, archive: &[u8]) -> Applied {
        self.graph.apply(id, &mut &*archive, &LayerApplyOptions::default()).unwrap()
    }

    /// Runs `work` on the mounted layer's root.
    #[track_caller]
    pub fn edit<T>(&self, id: &LayerId, work: impl FnOnce(&Path) -> T) -> T {
        let mount = self.graph.mount(id, &MountOptions::default()).unwrap();
        let result = work(mount.path());
        mount.unmount().unwrap();
        result
    }

    /// What the mounted layer shows.
    #[track_caller]
    pub fn tree(&self, id: &LayerId, times: Times) -> Tree {
        self.edit(id, |root| Tree::read(root, times))
    }

    /// The changes in the form that the command prints: `A /path`.
    #[track_caller]
    pub fn changes(&self, id: &LayerId, base: Option<&LayerId>) -> Vec<String> {
        self.graph.changes(id, base).unwrap().iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    pub fn diff(&self, id: &LayerId, base: Option<&LayerId>) -> Vec<u8> {
        let mut diff = self.graph.diff(id, base, &IdMaps::default()).unwrap();
        let mut archive = Vec::new();
        diff.read_to_end(&mut archive).unwrap();
        diff.finish().unwrap();
        archive
    }

    #[track_caller]
    pub fn remove(&self, id: &LayerId) {
        self.graph.remove(id).unwrap();
    }

    /// Every file below the home, layers' contents included, but not the lock of the home, which stays once it was taken.
    pub fn files(&self) -> BTreeSet<PathBuf> {
        let home = self.home();
        let mut found = BTreeSet::new();
        let mut pending = vec![home.clone()];
        while let Some(dir) = pending.pop() {
            for entry in fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap()) {
                if entry.file_type().unwrap().is_dir() {
                    pending.push(entry.path());
                }
                if entry.file_name() != ".graphdriver.lock" {
                    found.insert(entry.path().strip_prefix(&home).unwrap().to_owned());
                }
            }
        }
        found
    }

    /// Checks that the home has the same files as it had.
    #[track_caller]
    pub fn assert_files(&self, before: &BTreeSet<PathBuf>) {
        let now = self.files();
        let (left, lost): (Vec<_>, Vec<_>) =
            (now.difference(before).collect(), before.difference(&now).collect());
        assert!(left.is_empty() && lost.is_empty(), "left behind: {left:?}; lost: {lost:?}");
    }

    /// Checks that nothing stays mounted, and empties the directory of the case.
    pub fn finish(self) {
        self.graph.cleanup().unwrap();
        let mounts = mounts_below(&self.dir);
        assert!(mounts.is_empty(), "still mounted: {mounts:?}");
        RootDir::open(&self.dir).unwrap().remove_contents().unwrap();
    }
}
