//! What containers/storage and we say of one layer in one home must be the same.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use graphdriver_conformance::tree::Tree;

use crate::differences::{Peer, left_out_by_containers_storage, written_by};
use crate::peer::{containers_storage, gnu_tar};
use crate::stage::Scratch;
use crate::store::{Store, done, id};

/// One home, seen by both.
pub(crate) struct Shared {
    pub(crate) theirs: containers_storage::Store,
    pub(crate) ours: Store,
    pub(crate) scratch: Scratch,
}

impl Shared {
    /// A new home that containers/storage made first.
    pub(crate) fn new(
        driver: &'static str,
        scratch: Scratch,
        fill: impl FnOnce(&containers_storage::Store),
    ) -> Self {
        let theirs = containers_storage::Store::new(driver, scratch.path());
        fill(&theirs);
        let ours = Store::open(driver, scratch.path());
        Self { theirs, ours, scratch }
    }

    /// All that can be asked of a layer whose contents did not come as an archive to containers/storage: of those it keeps what it read.
    pub(crate) fn agree_on(&self, layer: &str, parent: Option<&str>) {
        self.agree_on_tree(layer);
        self.agree_on_changes(layer, parent);
        self.agree_on_size(layer, parent);
        if let Some(parent) = parent {
            self.agree_on_diff(layer, parent);
        }
    }

    pub(crate) fn agree_on_tree(&self, layer: &str) {
        let theirs = Tree::read_large(&self.theirs.mount(layer));
        self.theirs.unmount(layer);
        self.ours.tree(layer).assert_same(&theirs);
    }

    pub(crate) fn agree_on_size(&self, layer: &str, parent: Option<&str>) {
        let ours = done(self.ours.graph.diff_size(&id(layer), parent.map(id).as_ref()));
        assert_eq!(ours, self.theirs.diff_size(layer), "{layer}");
    }

    /// Both archives have the same entries, and give the same layer, but for what is known to get lost in theirs.
    pub(crate) fn agree_on_diff(&self, layer: &str, parent: &str) {
        let writers = ["ours", "theirs"].map(|writer| format!("{layer}-by-{writer}"));
        let [ours, theirs] = writers.each_ref().map(|writer| self.scratch.join(&format!("{writer}.tar")));
        self.ours.diff(layer, Some(parent), &ours);
        self.theirs.diff(layer, &theirs);
        let trees = writers.each_ref().map(|writer| {
            self.ours.fill(writer, Some(parent), &self.scratch.join(&format!("{writer}.tar")));
            let tree = self.ours.tree(writer);
            done(self.ours.graph.remove(&id(writer)));
            tree
        });
        let left_out = left_out_by_containers_storage(&trees[0]);
        let mut names = gnu_tar::names(&ours);
        names.retain(|name| !left_out.contains(Path::new(name)));
        assert_same(layer, &names, &gnu_tar::names(&theirs));
        let mut expected = written_by(Peer::ContainersStorage, &trees[0]);
        // What is not in the archive is as it was.
        for (path, below) in self.ours.tree(parent).nodes {
            let seen = trees[0].nodes.get(&path);
            if left_out.contains(&path) || seen == Some(&below) {
                expected.nodes.insert(path, below);
            }
        }
        expected.assert_same(&trees[1]);
    }

    pub(crate) fn agree_on_changes(&self, layer: &str, parent: Option<&str>) {
        // Directories count as modified by rules of their own: theirs by size, which tells nothing, and not by owner.
        let tree = self.ours.tree(layer);
        let is_comparable = |(kind, path): &(char, PathBuf)| {
            *kind != 'C' || !tree.nodes[path.strip_prefix("/").unwrap()].is_dir()
        };
        let ours = done(self.ours.graph.changes(&id(layer), parent.map(id).as_ref())).into_iter();
        let ours = ours.map(|change| (change.kind.letter(), change.path));
        let ours: BTreeSet<_> = ours.filter(is_comparable).collect();
        let theirs = below_new_directories_all_is_new(self.theirs.changes(layer)).into_iter();
        let theirs: BTreeSet<_> = theirs.filter(is_comparable).collect();
        assert_same(layer, &ours, &theirs);
        assert!(!ours.is_empty());
    }
}

fn assert_same<T: Ord + fmt::Debug>(layer: &str, ours: &BTreeSet<T>, theirs: &BTreeSet<T>) {
    let only = |this: &BTreeSet<T>, other| format!("{:?}", this.difference(other).collect::<Vec<_>>());
    let (only_ours, only_theirs) = (only(ours, theirs), only(theirs, ours));
    assert!(ours == theirs, "{layer}: only ours {only_ours}, only theirs {only_theirs}");
}

/// Files of a directory that was deleted and made anew count as added; containers/storage calls those modified whose names were there before.
fn below_new_directories_all_is_new(mut changes: Vec<(char, PathBuf)>) -> Vec<(char, PathBuf)> {
    let deleted = changes.iter().filter(|(kind, _)| *kind == 'D').map(|(_, path)| path.clone());
    let deleted: BTreeSet<PathBuf> = deleted.collect();
    for (kind, path) in &mut changes {
        if path.ancestors().skip(1).any(|above| deleted.contains(above)) {
            *kind = 'A';
        }
    }
    changes
}
