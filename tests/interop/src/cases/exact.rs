//! `exact/<what>`: the archives that layers came from, given back byte for byte, from records that containers/storage and we read of each other.

use std::fs;
use std::path::{Path, PathBuf};

use graphdriver::LayerApplyOptions;

use super::Case;
use crate::agree::Shared;
use crate::bench::Bench;
use crate::needs::Need;
use crate::peer::gnu_tar;
use crate::store::{done, id};
use crate::unpacker::{Layer, Unpacker};

/// Each on the one before.
const LAYERS: [&str; 3] = ["base", "hardlinks", "whiteouts"];

pub(super) fn cases() -> Vec<Case> {
    let case = |what: &str, run: fn(&Bench) -> Result<(), Need>| {
        Case::new(format!("exact/{what}"), move |bench| {
            Unpacker::ContainersStorage("overlay").is_here()?;
            run(bench)
        })
    };
    vec![
        case("theirs", theirs),
        case("theirs-compressed", theirs_compressed),
        case("theirs-edited", theirs_edited),
        case("ours", ours),
    ]
}

/// They fill layers; their records are used by us.
fn theirs(bench: &Bench) -> Result<(), Need> {
    let layers = bench.archives(&LAYERS)?;
    let shared = Shared::new("overlay", bench.stage.scratch()?, |theirs| {
        for ((layer, archive), parent) in with_parents(&layers) {
            theirs.fill(layer, parent, archive);
        }
    });
    both_give_back(&shared, &layers);
    Ok(())
}

/// The record of a layer that came compressed is of what was in it.
fn theirs_compressed(bench: &Bench) -> Result<(), Need> {
    let archives = bench.archives(&["hardlinks"])?;
    let scratch = bench.stage.scratch()?;
    let compressed = scratch.join("hardlinks.tar.gz");
    gnu_tar::compress(&archives[0].1, &compressed);
    let shared = Shared::new("overlay", scratch, |theirs| theirs.fill("hardlinks", None, &compressed));
    both_give_back(&shared, &archives);
    Ok(())
}

/// A layer that they have written to since does not give the old archive.
fn theirs_edited(bench: &Bench) -> Result<(), Need> {
    let archives = bench.archives(&["hardlinks"])?;
    let archive = &archives[0].1;
    let shared =
        Shared::new("overlay", bench.stage.scratch()?, |theirs| theirs.fill("hardlinks", None, archive));
    let (before, after) = (shared.scratch.join("before.tar"), shared.scratch.join("after.tar"));
    shared.ours.diff("hardlinks", None, &before);
    assert_same_bytes("hardlinks", &before, archive);
    fs::write(shared.theirs.mount("hardlinks").join("edited"), "by them\n").unwrap();
    shared.theirs.unmount("hardlinks");
    shared.ours.diff("hardlinks", None, &after);
    shared.ours.fill("again", None, &after);
    shared.ours.tree("again").assert_same(&shared.ours.tree("hardlinks"));
    assert_eq!(shared.ours.tree("again").contents("edited"), "by them\n");
    Ok(())
}

/// They make layers and we fill them, or we remove theirs and make them anew; our records are used by them.
fn ours(bench: &Bench) -> Result<(), Need> {
    let layers = bench.archives(&LAYERS)?;
    let shared = Shared::new("overlay", bench.stage.scratch()?, |theirs| {
        for ((layer, _), parent) in with_parents(&layers) {
            theirs.create(layer, parent);
        }
    });
    let graph = &shared.ours.graph;
    let (top, archive) = layers.last().unwrap();
    done(graph.remove(&id(top)));
    for (layer, archive) in &layers[..layers.len() - 1] {
        let mut archive = fs::File::open(archive).unwrap();
        done(graph.apply(&id(layer), &mut archive, &LayerApplyOptions::default()));
    }
    shared.ours.fill(top, Some(layers[layers.len() - 2].0), archive);
    both_give_back(&shared, &layers);
    // Our records go with the layers.
    for (layer, _) in layers.iter().rev() {
        shared.theirs.delete(layer);
        assert!(!record(&shared, layer).exists());
    }
    Ok(())
}

fn both_give_back(shared: &Shared, layers: &[Layer]) {
    for ((layer, archive), parent) in with_parents(layers) {
        assert!(record(shared, layer).is_file(), "{layer}");
        let diffs = ["ours", "theirs"].map(|writer| shared.scratch.join(&format!("{layer}-{writer}.tar")));
        shared.ours.diff(layer, parent, &diffs[0]);
        shared.theirs.diff(layer, &diffs[1]);
        for diff in &diffs {
            assert_same_bytes(layer, diff, archive);
        }
    }
}

#[track_caller]
fn assert_same_bytes(layer: &str, diff: &Path, archive: &Path) {
    assert!(fs::read(diff).unwrap() == fs::read(archive).unwrap(), "{layer}: {}", diff.display());
}

fn with_parents(layers: &[Layer]) -> impl Iterator<Item = (&Layer, Option<&'static str>)> {
    let parents = std::iter::once(None).chain(layers.iter().map(|(layer, _)| Some(*layer)));
    layers.iter().zip(parents)
}

/// Where both keep the record of the archive.
fn record(shared: &Shared, layer: &str) -> PathBuf {
    shared.scratch.join("graph/overlay-layers").join(format!("{layer}.tar-split.gz"))
}
