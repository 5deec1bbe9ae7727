//! `open/<driver>/<what>`: a home that containers/storage made, opened by us.

use std::collections::BTreeSet;
use std::path::PathBuf;

use graphdriver_conformance::tree::Tree;

use super::{Case, DRIVERS};
use crate::bench::Bench;
use crate::edit::{PARENTS, edit_but_keep_files};
use crate::needs::Need;
use crate::peer::containers_storage;
use crate::stage::Scratch;
use crate::store::{Store, done, id};
use crate::unpacker::Unpacker;

/// The last one was edited where it was mounted.
const LAYERS: [&str; 3] = [PARENTS[0], PARENTS[1], "child"];

/// One home, seen by both.
struct Shared {
    theirs: containers_storage::Store,
    ours: Store,
    _scratch: Scratch,
}

pub(super) fn cases() -> Vec<Case> {
    let cases = DRIVERS.into_iter().flat_map(|driver| {
        let case = move |what: &str, check: fn(&Shared)| {
            Case::new(format!("open/{driver}/{what}"), move |bench| {
                check(&Shared::new(driver, bench)?);
                Ok(())
            })
        };
        let mut cases = vec![case("layers", layers), case("trees", trees)];
        if driver == "overlay" {
            // In the vfs driver's layout a parent is known to who made the layers alone.
            cases.extend([case("parents", parents), case("changes", changes)]);
        }
        cases
    });
    cases.collect()
}

impl Shared {
    fn new(driver: &'static str, bench: &Bench) -> Result<Self, Need> {
        Unpacker::ContainersStorage(driver).is_here()?;
        let scratch = bench.stage.scratch()?;
        let theirs = containers_storage::Store::new(driver, scratch.path());
        let mut parent = None;
        for (layer, archive) in bench.archives(&PARENTS)? {
            theirs.fill(layer, parent, &archive);
            parent = Some(layer);
        }
        theirs.create(LAYERS[2], parent);
        edit_but_keep_files(&theirs.mount(LAYERS[2]));
        theirs.unmount(LAYERS[2]);
        let ours = Store::open(driver, scratch.path());
        Ok(Self { theirs, ours, _scratch: scratch })
    }
}

fn layers(shared: &Shared) {
    let mut expected = LAYERS.map(id);
    expected.sort();
    assert_eq!(done(shared.ours.graph.layers()), expected);
}

fn parents(shared: &Shared) {
    let mut parent = None;
    for layer in LAYERS.map(id) {
        assert_eq!(done(shared.ours.graph.parent(&layer)), parent);
        parent = Some(layer);
    }
}

fn trees(shared: &Shared) {
    for layer in LAYERS {
        let theirs = Tree::read_large(&shared.theirs.mount(layer));
        shared.theirs.unmount(layer);
        shared.ours.tree(layer).assert_same(&theirs);
    }
}

fn changes(shared: &Shared) {
    let mut parent = None;
    for layer in LAYERS {
        // Directories count as modified by rules of their own: theirs by size, which tells nothing, and not by owner.
        let tree = shared.ours.tree(layer);
        let is_comparable = |(kind, path): &(char, PathBuf)| {
            *kind != 'C' || !tree.nodes[path.strip_prefix("/").unwrap()].is_dir()
        };
        let ours = done(shared.ours.graph.changes(&id(layer), parent.as_ref())).into_iter();
        let ours = ours.map(|change| (change.kind.letter(), change.path));
        let ours: BTreeSet<_> = ours.filter(is_comparable).collect();
        let theirs = below_new_directories_all_is_new(shared.theirs.changes(layer)).into_iter();
        let theirs: BTreeSet<_> = theirs.filter(is_comparable).collect();
        let only = |this: &BTreeSet<_>, other| format!("{:?}", this.difference(other).collect::<Vec<_>>());
        let (only_ours, only_theirs) = (only(&ours, &theirs), only(&theirs, &ours));
        assert!(ours == theirs, "{layer}: only ours {only_ours}, only theirs {only_theirs}");
        assert!(!ours.is_empty());
        parent = Some(id(layer));
    }
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
