//! What comes out of one layer as an archive makes another the same.

use std::fs;

use graphdriver_core::LayerId;

use crate::content;
use crate::store::Store;
use crate::tree::Times;

pub fn ten(store: &Store) {
    of(store, 10);
}

pub fn hundred(store: &Store) {
    of(store, 100);
}

fn make_base(store: &Store, count: u64) -> LayerId {
    let base = store.create("base", None);
    store.edit(&base, |root| {
        content::write_files(root, count, 3);
        fs::write(root.join("file-remove.txt"), "to be removed").unwrap();
        fs::create_dir_all(root.join("var/lib")).unwrap();
        fs::write(root.join("var/lib/file"), "").unwrap();
    });
    base
}

fn of(store: &Store, count: u64) {
    let base = make_base(store, count);
    let upper = store.create("upper", Some(&base));
    store.edit(&upper, |root| {
        content::write_files(root, count, 6);
        fs::remove_file(root.join("file-remove.txt")).unwrap();
        fs::remove_file(root.join("var/lib/file")).unwrap();
        fs::remove_dir(root.join("var/lib")).unwrap();
    });
    let archive = store.diff(&upper, Some(&base));
    let again = store.create("again", Some(&base));
    let applied = store.apply(&again, &archive);
    assert_eq!(applied.bytes, store.graph().diff_size(&upper, Some(&base)).unwrap());
    assert_eq!(applied.bytes, count * 64);
    store.edit(&again, |root| {
        content::check_files(root, count, 6);
        assert!(!root.join("file-remove.txt").exists());
        assert!(root.join("var").exists() && !root.join("var/lib").exists());
    });
    store.tree(&again, Times::Seconds).assert_same(&store.tree(&upper, Times::Seconds));
    assert_eq!(store.changes(&again, Some(&base)), store.changes(&upper, Some(&base)));
}

pub fn whole_layer(store: &Store) {
    let base = make_base(store, 10);
    let upper = store.create("upper", Some(&base));
    store.edit(&upper, |root| fs::remove_file(root.join("file-remove.txt")).unwrap());
    let copy = store.fill("copy", None, &store.diff(&upper, None));
    store.tree(&copy, Times::Seconds).assert_same(&store.tree(&upper, Times::Seconds));
}

/// Neither is the parent of the other.
pub fn strangers(store: &Store) {
    let base = make_base(store, 10);
    let [left, right] = ["left", "right"].map(|name| store.create(name, Some(&base)));
    store.edit(&left, |root| {
        fs::write(root.join("left"), "left").unwrap();
        fs::remove_file(root.join("var/lib/file")).unwrap();
    });
    store.edit(&right, |root| {
        fs::write(root.join("right"), "right").unwrap();
        fs::write(root.join("directory-0/file-1"), "right, and of another size").unwrap();
    });
    let changes = store.changes(&right, Some(&left));
    for expected in ["C /directory-0/file-1", "D /left", "A /right", "A /var/lib/file"] {
        assert!(changes.iter().any(|change| change == expected), "{expected} is missing in {changes:?}");
    }
    let archive = store.diff(&right, Some(&left));
    let joined = store.create("joined", Some(&left));
    store.apply(&joined, &archive);
    store.tree(&joined, Times::Seconds).assert_same(&store.tree(&right, Times::Seconds));
    // The other way round: from child to parent.
    let backwards = store.changes(&base, Some(&right));
    assert!(backwards.iter().any(|change| change == "D /right"), "{backwards:?}");
}
