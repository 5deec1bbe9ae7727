//! What containers/storage and we say of one layer in one home must be the same.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use graphdriver_conformance::tree::{Node, Tree};

use crate::differences::{Peer, left_out_by_containers_storage, written_by};
use crate::peer::{containers_storage, gnu_tar};
use crate::stage::Scratch;
use crate::store::{Store, done, id};

/// One home, seen by both.
pub(crate) struct Shared {
    pub(crate) driver: &'static str,
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
        Self { driver, theirs, ours, scratch }
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
        let tree = self.ours.tree(layer);
        let changed = self.changes(layer, parent);
        let missed = self.missed(&tree, parent).into_iter();
        let missed = missed.filter(|path| changed.contains(&('C', path.clone())));
        let missed: u64 = missed.map(|path| bytes(&tree, &path)).sum();
        assert_eq!(ours, self.theirs.diff_size(layer) + missed, "{layer}");
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
        let mut left_out = left_out_by_containers_storage(&trees[0]);
        let (mut names, their_names) = (gnu_tar::names(&ours), gnu_tar::names(&theirs));
        names.retain(|name| !left_out.contains(Path::new(name)));
        let mut trees = trees;
        if self.walks() {
            let only_ours = names.difference(&their_names).map(|name| name.trim_end_matches('/').to_owned());
            let only_ours: BTreeSet<String> = only_ours.collect();
            let (missed, along) =
                (self.missed(&trees[0], Some(parent)), brought_along(&trees[0], &only_ours));
            for name in only_ours {
                let is_dir = trees[0].nodes[Path::new(&name)].is_dir();
                let path = Path::new("/").join(&name);
                assert!(is_dir || missed.contains(&path) || along.contains(&path), "{layer}: {name}");
                left_out.insert(name.into());
            }
            names.retain(|name| their_names.contains(name));
            // What is in the archive under one of its names only is a file of its own.
            for tree in &mut trees {
                for path in &along {
                    tree.nodes.get_mut(path.strip_prefix("/").unwrap()).unwrap().link = None;
                }
            }
        }
        assert_same(layer, &names, &their_names);
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

    fn changes(&self, layer: &str, parent: Option<&str>) -> BTreeSet<(char, PathBuf)> {
        let changes = done(self.ours.graph.changes(&id(layer), parent.map(id).as_ref())).into_iter();
        changes.map(|change| (change.kind.letter(), change.path)).collect()
    }

    /// Whether they find changes by comparing two mounted trees.
    fn walks(&self) -> bool {
        self.driver != "overlay"
    }

    /// The files that differ from the parent's where they do not look when they walk: only in contents, when size and time are the same.
    fn missed(&self, tree: &Tree, parent: Option<&str>) -> BTreeSet<PathBuf> {
        let Some(parent) = parent.filter(|_| self.walks()) else { return BTreeSet::new() };
        let below = self.ours.tree(parent);
        let looks_same = |path: &PathBuf, node: &Node| {
            below.nodes.get(path).is_some_and(|other| {
                let contents = &other.contents;
                let same = Node { contents: contents.clone(), link: other.link.clone(), ..node.clone() };
                same == *other && node.contents != *contents && node.contents.bytes() == contents.bytes()
            })
        };
        let missed = tree.nodes.iter().filter(|(path, node)| looks_same(path, node));
        missed.map(|(path, _)| Path::new("/").join(path)).collect()
    }

    pub(crate) fn agree_on_changes(&self, layer: &str, parent: Option<&str>) {
        // Directories count as modified by rules of their own: theirs by size, which tells nothing, and not by owner.
        let tree = self.ours.tree(layer);
        let is_comparable = |(kind, path): &(char, PathBuf)| {
            *kind != 'C' || !tree.nodes[path.strip_prefix("/").unwrap()].is_dir()
        };
        let mut ours = self.changes(layer, parent);
        if self.walks() {
            let added = ours.iter().filter(|(kind, _)| *kind == 'A').map(|(_, path)| path);
            let added = added.map(|path| path.strip_prefix("/").unwrap().to_str().unwrap_or("").to_owned());
            let along = brought_along(&tree, &added.collect());
            let missed = self.missed(&tree, parent);
            ours.retain(|(kind, path)| *kind != 'C' || !(along.contains(path) || missed.contains(path)));
        }
        let ours: BTreeSet<_> = ours.into_iter().filter(is_comparable).collect();
        let theirs = below_new_directories_all_is_new(self.theirs.changes(layer)).into_iter();
        let theirs: BTreeSet<_> = theirs.filter(is_comparable).collect();
        assert_same(layer, &ours, &theirs);
        assert!(!ours.is_empty());
    }
}

/// The other names of files that are in `names` under one: we write those too, so that an archive says that they are one file.
fn brought_along(tree: &Tree, names: &BTreeSet<String>) -> BTreeSet<PathBuf> {
    let groups = names.iter().filter_map(|name| tree.nodes.get(Path::new(name))?.link.as_ref());
    let groups: BTreeSet<&PathBuf> = groups.collect();
    let along =
        tree.nodes.iter().filter(|(_, node)| node.link.as_ref().is_some_and(|link| groups.contains(link)));
    along.map(|(path, _)| Path::new("/").join(path)).collect()
}

/// The bytes of a file.
fn bytes(tree: &Tree, path: &Path) -> u64 {
    tree.nodes[path.strip_prefix("/").unwrap()].contents.bytes()
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
