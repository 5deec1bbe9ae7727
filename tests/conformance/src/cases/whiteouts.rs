//! Deletions, in archives and in mounted layers.

use std::fs;

use graphdriver_core::LayerId;

use crate::store::Store;
use crate::tarball::{Entry, Tarball};
use crate::tree::Times;

fn base(store: &Store) -> LayerId {
    store.fill(
        "base",
        None,
        &Tarball::of([
            Entry::file(".baz", ""),
            Entry::file("baz", "base"),
            Entry::dir("foo"),
            Entry::file("foo/.abc", ""),
            Entry::dir("foo/cde"),
            Entry::file("foo/cde/efg", "base"),
            Entry::file("foobar", "base"),
        ]),
    )
}

/// The layer as it is, and as the archive of its changes makes it.
fn check(store: &Store, layer: &LayerId, parent: &LayerId, paths: &[&str]) {
    let tree = store.tree(layer, Times::Seconds);
    assert_eq!(tree.paths(), paths);
    let copy = store.create("copy", Some(parent));
    store.apply(&copy, &store.diff(layer, Some(parent)));
    store.tree(&copy, Times::Seconds).assert_same(&tree);
    let filled = store.fill("filled", Some(parent), &store.diff(layer, Some(parent)));
    store.tree(&filled, Times::Seconds).assert_same(&tree);
    store.remove(&copy);
    store.remove(&filled);
}

pub fn of_files_and_dirs(store: &Store) {
    let base = base(store);
    let second = store.fill(
        "second",
        Some(&base),
        &Tarball::of([
            Entry::whiteout("baz"),
            Entry::dir("foo"),
            Entry::whiteout("foo/cde"),
            Entry::file(".bay", ""),
        ]),
    );
    check(store, &second, &base, &[".bay", ".baz", "foo", "foo/.abc", "foobar"]);
    assert_eq!(store.changes(&second, Some(&base)), ["A /.bay", "D /baz", "C /foo", "D /foo/cde"]);
    // `.wh..baz` deletes `.baz`; a whiteout of what is not there is nothing.
    let third = store.fill(
        "third",
        Some(&second),
        &Tarball::of([
            Entry::whiteout(".baz"),
            Entry::whiteout("foobar"),
            Entry::whiteout("missing"),
            Entry::whiteout("foo/gone/away"),
        ]),
    );
    let tree = store.tree(&third, Times::Seconds);
    assert!(
        tree.paths().starts_with(&[".bay".to_owned(), "foo".to_owned(), "foo/.abc".to_owned()]),
        "{:?}",
        tree.paths()
    );
}

/// Opaque hides what was below, not what this archive brings, whichever comes first in it.
pub fn opaque(store: &Store) {
    let base = base(store);
    let second = store.fill(
        "second",
        Some(&base),
        &Tarball::of([
            Entry::dir("foo"),
            Entry::file("foo/.bce", ""),
            Entry::opaque("foo"),
            Entry::dir("foo/cde"),
            Entry::file("foo/cde/new", ""),
        ]),
    );
    check(store, &second, &base, &[".baz", "baz", "foo", "foo/.bce", "foo/cde", "foo/cde/new", "foobar"]);
    let third = store.fill(
        "third",
        Some(&second),
        &Tarball::of([Entry::opaque(""), Entry::file(".abc", ""), Entry::file("foobar", "")]),
    );
    check(store, &third, &second, &[".abc", "foobar"]);
}

pub fn directory_file_directory(store: &Store) {
    let base = base(store);
    let file = store.create("file", Some(&base));
    store.edit(&file, |root| {
        fs::remove_file(root.join("foo/cde/efg")).unwrap();
        fs::remove_dir(root.join("foo/cde")).unwrap();
        fs::write(root.join("foo/cde"), "a file").unwrap();
    });
    check(store, &file, &base, &[".baz", "baz", "foo", "foo/.abc", "foo/cde", "foobar"]);
    assert_eq!(store.changes(&file, Some(&base)), ["C /foo", "C /foo/cde"]);
    let dir = store.create("dir", Some(&file));
    store.edit(&dir, |root| {
        fs::remove_file(root.join("foo/cde")).unwrap();
        fs::create_dir(root.join("foo/cde")).unwrap();
        fs::write(root.join("foo/cde/hij"), "").unwrap();
    });
    check(store, &dir, &file, &[".baz", "baz", "foo", "foo/.abc", "foo/cde", "foo/cde/hij", "foobar"]);
    // The same by archives alone: an entry replaces what was there.
    let again = store.fill("again", Some(&base), &Tarball::of([Entry::file("foo/cde", "a file")]));
    assert_eq!(store.tree(&again, Times::Seconds).contents("foo/cde"), "a file");
    let dir = store.fill(
        "dir-again",
        Some(&again),
        &Tarball::of([Entry::dir("foo/cde"), Entry::file("foo/cde/hij", "")]),
    );
    let paths = store.tree(&dir, Times::Seconds).paths();
    assert_eq!(paths, [".baz", "baz", "foo", "foo/.abc", "foo/cde", "foo/cde/hij", "foobar"]);
}

/// A directory that was deleted and made again is empty, and what was in it stays hidden.
pub fn deleted_then_made_again(store: &Store) {
    let base = base(store);
    let layer = store.create("layer", Some(&base));
    store.edit(&layer, |root| {
        fs::remove_file(root.join("foo/cde/efg")).unwrap();
        fs::remove_dir(root.join("foo/cde")).unwrap();
        fs::remove_file(root.join("foo/.abc")).unwrap();
        fs::remove_dir(root.join("foo")).unwrap();
        fs::create_dir(root.join("foo")).unwrap();
        fs::write(root.join("foo/new"), "").unwrap();
    });
    check(store, &layer, &base, &[".baz", "baz", "foo", "foo/new", "foobar"]);
    let child = store.create("child", Some(&layer));
    store.edit(&child, |root| fs::create_dir(root.join("foo/cde")).unwrap());
    check(store, &child, &layer, &[".baz", "baz", "foo", "foo/cde", "foo/new", "foobar"]);
}
