//! Processes that end in the middle of their work.

use graphdriver_core::{CreateOptions, LayerApplyOptions};

use crate::content;
use crate::process::fill_half_way;
use crate::store::{Store, id};
use crate::tarball::{Entry, Tarball};
use crate::tree::Times;

pub fn killed_while_filling(store: &Store) {
    assert!(
        store.graph().driver().staged_apply().is_some(),
        "every driver of this suite fills layers out of sight"
    );
    let base = store.fill("base", None, &Tarball::of([Entry::file("file", "base")]));
    let before = store.files();
    let files = (0..40).map(|index| Entry::file(format!("file-{index}"), content::bytes(index, 100_000)));
    let archive = Tarball::of(files);
    for (round, parent) in [None, Some(&base), Some(&base)].into_iter().enumerate() {
        let part = &archive[..archive.len() / (round + 2)];
        fill_half_way(store.configuration(), store.dir(), &id("half"), parent, part);
        assert!(!store.graph().exists(&id("half")).unwrap());
        assert_eq!(store.graph().layers().unwrap(), std::slice::from_ref(&base));
        let reopened = store.reopen();
        store.assert_files(&before);
        assert_eq!(reopened.layers().unwrap(), std::slice::from_ref(&base));
    }
    let whole = store.fill("half", Some(&base), &archive);
    assert_eq!(store.tree(&whole, Times::Seconds).paths().len(), 41);
}

pub fn dropped_before_commit(store: &Store) {
    let base = store.create("base", None);
    let before = store.files();
    let driver = store.graph().driver();
    let staging = driver.staged_apply().expect("every driver of this suite fills layers out of sight");
    let archive = Tarball::of([Entry::file("file", "data")]);
    let stage = |parent: Option<&_>| {
        let create = CreateOptions { parent: parent.cloned(), ..CreateOptions::default() };
        staging.stage(&create, &mut &*archive, &LayerApplyOptions::default()).unwrap()
    };
    for parent in [None, Some(&base)] {
        let staged = stage(parent);
        assert_eq!(staged.applied().bytes, 4);
        assert_eq!(store.graph().layers().unwrap(), std::slice::from_ref(&base));
        drop(staged);
        store.assert_files(&before);
    }
    // Another layer has the id: it stays, and the staged one goes.
    let taken = store.create("taken", None);
    let before = store.files();
    let staged = stage(Some(&base));
    crate::store::fails(staged.commit(&taken), graphdriver_core::ErrorKind::LayerExists);
    store.assert_files(&before);
    assert_eq!(store.tree(&taken, Times::Seconds).paths(), [""; 0]);
    let staged = stage(Some(&base));
    staged.commit(&id("layer")).unwrap();
    assert_eq!(store.graph().parent(&id("layer")).unwrap(), Some(base));
    assert_eq!(store.tree(&id("layer"), Times::Seconds).contents("file"), "data");
}
