//! Whatever is done to layers, the two ways agree.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::edits::{Edit, edit};
use crate::volume::Volume;

/// What is done to three layers on each other, in this order: to each before the next is made of it, and to the lower two after.
#[derive(Clone, Debug)]
struct Scripts {
    layers: [Vec<Edit>; 3],
    base_later: Vec<Edit>,
    middle_later: Vec<Edit>,
    sibling: Vec<Edit>,
}

fn scripts() -> impl Strategy<Value = Scripts> {
    let script = |lengths: std::ops::Range<usize>| prop::collection::vec(edit(), lengths);
    // Most layers are not touched any more once they have children.
    let later = || prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(edit(), 1..8)];
    let layers = (script(20..80), script(1..20), script(1..20));
    (layers, later(), later(), script(1..10)).prop_map(|(layers, base_later, middle_later, sibling)| {
        Scripts { layers: layers.into(), base_later, middle_later, sibling }
    })
}

fn edit_layer(volume: &Volume, layer: &str, script: &[Edit]) {
    for edit in script {
        edit.run(&volume.layer(layer));
    }
}

fn make(volume: &Volume, scripts: &Scripts) {
    volume.create("base", None);
    edit_layer(volume, "base", &scripts.layers[0]);
    volume.create("middle", Some("base"));
    edit_layer(volume, "middle", &scripts.layers[1]);
    volume.create("top", Some("middle"));
    edit_layer(volume, "top", &scripts.layers[2]);
    edit_layer(volume, "base", &scripts.base_later);
    edit_layer(volume, "middle", &scripts.middle_later);
    volume.create("sibling", Some("base"));
    edit_layer(volume, "sibling", &scripts.sibling);
}

/// Parents and grandparents, both ways round, and layers that share no more than where they come from.
const PAIRS: [(&str, &str); 7] = [
    ("middle", "base"),
    ("top", "middle"),
    ("top", "base"),
    ("base", "top"),
    ("sibling", "base"),
    ("sibling", "top"),
    ("top", "sibling"),
];

fn check(volume: &Volume) -> Result<(), TestCaseError> {
    for (layer, base) in PAIRS {
        let native = volume.native(layer, base).expect("they are related");
        prop_assert_eq!(native, volume.compared(layer, base), "{} against {}", layer, base);
    }
    Ok(())
}

fn agree(mount_options: &str, cases: u32) {
    let volume = Volume::new(mount_options);
    // The same scripts in every run: what fails must fail again.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 300, ..Config::default() };
    TestRunner::new_with_rng(config, rng)
        .run(&scripts(), |scripts| {
            make(&volume, &scripts);
            let checked = check(&volume);
            for layer in ["sibling", "top", "middle", "base"] {
                volume.remove(layer);
            }
            checked
        })
        .unwrap();
}

#[test]
#[ignore = "needs root"]
fn on_a_plain_volume() {
    agree("", 200);
}

#[test]
#[ignore = "needs root"]
fn on_a_compressed_volume() {
    agree(",compress-force=zstd", 40);
}

#[test]
#[ignore = "needs root"]
fn where_files_are_written_in_place() {
    agree(",nodatacow", 40);
}
