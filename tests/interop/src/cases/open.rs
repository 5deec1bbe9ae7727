//! `open/<driver>/<what>`: a home that containers/storage made, opened by us.

use super::{Case, DRIVERS};
use crate::agree::Shared;
use crate::bench::Bench;
use crate::edit::{PARENTS, edit_but_keep_files};
use crate::needs::Need;
use crate::store::{done, id};
use crate::unpacker::Unpacker;

/// The last one was edited where it was mounted.
const LAYERS: [&str; 3] = [PARENTS[0], PARENTS[1], "child"];

pub(super) fn cases() -> Vec<Case> {
    let cases = DRIVERS.into_iter().flat_map(|driver| {
        let case = move |what: &str, check: fn(&Shared)| {
            Case::new(format!("open/{driver}/{what}"), move |bench| {
                check(&shared(driver, bench)?);
                Ok(())
            })
        };
        let mut cases = vec![case("layers", layers), case("trees", trees)];
        if driver != "vfs" {
            // In the vfs driver's layout a parent is known to who made the layers alone.
            cases.extend([case("parents", parents), case("changes", changes)]);
            cases.extend([case("sizes", sizes), case("diff", diff)]);
        }
        cases
    });
    cases.collect()
}

fn shared(driver: &'static str, bench: &Bench) -> Result<Shared, Need> {
    Unpacker::ContainersStorage(driver).is_here()?;
    let archives = bench.archives(&PARENTS)?;
    Ok(Shared::new(driver, bench.stage.scratch_for(driver)?, |theirs| {
        let mut parent = None;
        for (layer, archive) in archives {
            theirs.fill(layer, parent, &archive);
            parent = Some(layer);
        }
        theirs.create(LAYERS[2], parent);
        edit_but_keep_files(&theirs.mount(LAYERS[2]));
        theirs.unmount(LAYERS[2]);
    }))
}

/// Each layer with its parent.
fn with_parents() -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
    LAYERS.into_iter().zip([None, Some(LAYERS[0]), Some(LAYERS[1])])
}

fn layers(shared: &Shared) {
    let mut expected = LAYERS.map(id);
    expected.sort();
    assert_eq!(done(shared.ours.graph.layers()), expected);
}

fn parents(shared: &Shared) {
    for (layer, parent) in with_parents() {
        assert_eq!(done(shared.ours.graph.parent(&id(layer))), parent.map(id));
    }
}

fn trees(shared: &Shared) {
    for layer in LAYERS {
        shared.agree_on_tree(layer);
    }
}

fn changes(shared: &Shared) {
    for (layer, parent) in with_parents() {
        shared.agree_on_changes(layer, parent);
    }
}

fn sizes(shared: &Shared) {
    for (layer, parent) in with_parents() {
        shared.agree_on_size(layer, parent);
    }
}

fn diff(shared: &Shared) {
    shared.agree_on_diff(LAYERS[2], LAYERS[1]);
}
