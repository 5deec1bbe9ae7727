//! Our own layers.

use std::fs::File;
use std::io;
use std::path::Path;

use graphdriver::{
    CreateOptions, Graph, IdMaps, LayerApplyOptions, LayerId, LayerKind, MountOptions, OpenOptions, Result,
};
use graphdriver_conformance::tree::Tree;

/// An opened driver.
pub(crate) struct Store {
    pub(crate) graph: Graph,
}

/// The layer called `text`.
pub(crate) fn id(text: &str) -> LayerId {
    text.parse().unwrap()
}

#[track_caller]
pub(crate) fn done<T>(result: Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("{}", error.report()))
}

impl Store {
    /// The home of `driver` below `dir`, which another program may have made.
    pub(crate) fn open(driver: &str, dir: &Path) -> Self {
        Self::open_root(driver, &dir.join("graph"), &dir.join("run-of-ours"))
    }

    /// The home of `driver` below `root`, which another program may have made.
    pub(crate) fn open_root(driver: &str, root: &Path, run_root: &Path) -> Self {
        Self::open_with(driver, &OpenOptions::new(root, run_root))
    }

    pub(crate) fn open_with(driver: &str, options: &OpenOptions) -> Self {
        Self { graph: done(graphdriver::registry().open(driver, options)) }
    }

    /// Makes a layer of an archive.
    pub(crate) fn fill(&self, layer: &str, parent: Option<&str>, archive: &Path) {
        self.fill_as(layer, parent, archive, &LayerApplyOptions::default());
    }

    /// Makes a layer of an archive that does not come back: its diff says what the layer is.
    pub(crate) fn fill_without_record(&self, layer: &str, parent: Option<&str>, archive: &Path) {
        let options = LayerApplyOptions { skip_record: true, ..LayerApplyOptions::default() };
        self.fill_as(layer, parent, archive, &options);
    }

    fn fill_as(&self, layer: &str, parent: Option<&str>, archive: &Path, options: &LayerApplyOptions) {
        let create = parent.map_or_else(CreateOptions::default, |parent| CreateOptions::on(&id(parent)));
        let mut archive = File::open(archive).unwrap();
        done(self.graph.create_filled(&id(layer), &create, &mut archive, options));
    }

    /// Makes a layer by writing to it while it is mounted.
    pub(crate) fn edit(&self, layer: &str, parent: &str, edit: impl FnOnce(&Path)) {
        let create = CreateOptions { kind: LayerKind::ReadWrite, ..CreateOptions::on(&id(parent)) };
        done(self.graph.create(&id(layer), &create));
        let mount = done(self.graph.mount(&id(layer), &MountOptions::default()));
        edit(mount.path());
        done(mount.unmount());
    }

    /// What is seen where the layer is mounted.
    pub(crate) fn tree(&self, layer: &str) -> Tree {
        let mount = done(self.graph.mount(&id(layer), &MountOptions::default()));
        let tree = Tree::read_large(mount.path());
        done(mount.unmount());
        tree
    }

    /// Writes what the layer changed against `base`, or all that is in it, to the new file `archive`.
    pub(crate) fn diff(&self, layer: &str, base: Option<&str>, archive: &Path) {
        self.diff_mapped(layer, base, &IdMaps::default(), archive);
    }

    /// The same as a container whose ids are mapped sees it.
    pub(crate) fn diff_mapped(&self, layer: &str, base: Option<&str>, maps: &IdMaps, archive: &Path) {
        let mut diff = done(self.graph.diff(&id(layer), base.map(id).as_ref(), maps));
        io::copy(&mut diff, &mut File::create_new(archive).unwrap()).unwrap();
        done(diff.finish());
    }
}
