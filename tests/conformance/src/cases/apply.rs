//! Filling layers.

use std::fs;
use std::io::Read;

use crate::content;
use crate::store::{Store, id};
use crate::tarball::{Entry, Tarball};
use crate::tree::Times;

/// A second archive on top of the first, in one layer, and one into a layer that was written to.
pub fn to_existing(store: &Store) {
    let base =
        store.fill("base", None, &Tarball::of([Entry::file("old", "base"), Entry::file("both", "base")]));
    let layer = store.create("layer", Some(&base));
    store.apply(
        &layer,
        &Tarball::of([Entry::file("both", "first"), Entry::dir("dir"), Entry::file("dir/first", "")]),
    );
    store.edit(&layer, |root| fs::write(root.join("dir/written"), "").unwrap());
    store.apply(
        &layer,
        &Tarball::of([
            Entry::file("both", "second"),
            Entry::file("dir/second", ""),
            Entry::whiteout("dir/first"),
            Entry::whiteout("old"),
        ]),
    );
    let tree = store.tree(&layer, Times::Seconds);
    assert_eq!(tree.paths(), ["both", "dir", "dir/second", "dir/written"]);
    assert_eq!(tree.contents("both"), "second");
    let tree = store.tree(&base, Times::Seconds);
    assert_eq!((tree.contents("old").as_str(), tree.contents("both").as_str()), ("base", "base"));
}

pub fn reports(store: &Store) {
    let archive = Tarball::of([
        Entry::dir("dir"),
        Entry::file("dir/file", content::bytes(1, 3000)),
        Entry::hard_link("link", "dir/file"),
        Entry::whiteout("dir/gone"),
    ]);
    let applied = store.try_fill(&id("layer"), None, &mut &*archive).unwrap();
    assert_eq!((applied.entries, applied.bytes), (4, 3000));
    let applied = store.try_fill(&id("nothing"), None, &mut &*Tarball::of([])).unwrap();
    assert_eq!((applied.entries, applied.bytes), (0, 0));
}

/// Who computes a digest of the stream beside the layer needs all of it to be read, also what comes after the archive's end.
pub fn drains_its_input(store: &Store) {
    let mut archive = Tarball::of([Entry::file("file", "data")]);
    archive.resize(archive.len() + 20_000, 0);
    let mut input = OneByOne { rest: &archive };
    store.try_fill(&id("layer"), None, &mut input).unwrap();
    assert!(input.rest.is_empty(), "{} bytes were left", input.rest.len());
    assert_eq!(store.tree(&id("layer"), Times::Seconds).contents("file"), "data");
}

/// A pipe at its slowest.
struct OneByOne<'a> {
    rest: &'a [u8],
}

impl Read for OneByOne<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(1);
        self.rest.read(&mut buffer[..length])
    }
}
