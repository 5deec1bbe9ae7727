//! Long chains of layers.

use std::fs;
use std::path::Path;

use graphdriver_core::LayerId;

use crate::store::Store;

pub fn read_130(store: &Store) {
    read(store, 130);
}

/// For drivers whose layers hold all that is below them.
pub fn read_40(store: &Store) {
    read(store, 40);
}

/// The same where each takes a dozen runs of programs.
pub fn read_10(store: &Store) {
    read(store, 10);
}

/// As many layers as the kernel stacks in one overlay mount, one of them being the top.
pub fn read_500(store: &Store) {
    read(store, 500);
}

/// Each layer leaves its name in a file that all write and in files of its own; all must show through the topmost one, whose diff has its own only.
fn read(store: &Store, depth: usize) {
    let base = store.create("base", None);
    store.edit(&base, |root| fs::write(root.join("testfile"), "base file").unwrap());
    let mut chain: Vec<LayerId> = vec![base];
    for index in 1..=depth {
        let parent = chain.last().unwrap().clone();
        let layer = store.create(&format!("layer-{index}"), Some(&parent));
        store.edit(&layer, |root| write(root, index, &layer, &parent));
        chain.push(layer);
    }
    let top = chain.last().unwrap();
    store.edit(top, |root| {
        assert_eq!(fs::read_to_string(root.join("top-id")).unwrap(), top.as_str());
        assert_eq!(fs::read(root.join("testfile")).unwrap(), b"base file");
        for (index, pair) in chain.windows(2).enumerate() {
            let dir = root.join(format!("layer-{}", index + 1));
            assert_eq!(fs::read_to_string(dir.join("parent-id")).unwrap(), pair[0].as_str());
            assert_eq!(fs::read_to_string(dir.join("layer-id")).unwrap(), pair[1].as_str());
        }
    });
    let parent = chain.iter().nth_back(1);
    let changes = store.changes(top, parent);
    let dir = format!("/layer-{depth}");
    let expected = [
        format!("A {dir}"),
        format!("A {dir}/layer-id"),
        format!("A {dir}/parent-id"),
        "C /top-id".to_owned(),
    ];
    assert!(expected.iter().all(|change| changes.contains(change)), "{changes:?}");
    assert_eq!(changes.iter().filter(|change| change.contains("layer-")).count(), 3, "{changes:?}");
    let tar = store.diff(top, parent);
    assert!(tar.len() > 512 * expected.len(), "a header for each of {expected:?} in {} bytes", tar.len());
    for layer in chain.iter().rev() {
        store.remove(layer);
    }
}

fn write(root: &Path, index: usize, layer: &LayerId, parent: &LayerId) {
    let dir = root.join(format!("layer-{index}"));
    fs::create_dir(&dir).unwrap();
    fs::write(root.join("top-id"), layer.as_str()).unwrap();
    fs::write(dir.join("layer-id"), layer.as_str()).unwrap();
    fs::write(dir.join("parent-id"), parent.as_str()).unwrap();
}
