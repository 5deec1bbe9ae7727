//! The archive that a layer was filled from comes back byte for byte, where the driver says so; everywhere, the same tree.

use std::fs;
use std::path::Path;

use graphdriver_core::LayerId;

use crate::store::Store;
use crate::tarball::{Entry, Tarball};
use crate::tree::Times;

fn entries() -> Vec<Entry> {
    vec![
        Entry::file("z", "last by name, first in the archive"),
        Entry::dir("./dir/"),
        Entry::file("dir/b", vec![7; 300_000]),
        Entry::hard_link("dir/hard", "dir/b"),
        Entry::symlink("dir/soft", "/nowhere"),
        Entry::file("implied/deep/c", ""),
        Entry::fifo("fifo"),
        Entry::dir("dir"),
    ]
}

fn odd_archives() -> Vec<(&'static str, Vec<u8>)> {
    let mut global = pax(b'g', "comment=for all");
    global.extend(Tarball::of(entries()));
    let mut long = pax(b'x', &format!("path={}/name", "long/".repeat(40)));
    long.extend(Tarball::of([Entry::file("short", "x")]));
    let mut one_block = Tarball::of(entries());
    one_block.truncate(one_block.len() - 512);
    let mut tape = Tarball::of(entries());
    tape.resize(tape.len().next_multiple_of(10240), 0);
    let mut junk = Tarball::of(entries());
    junk.extend(b"and something after the end ".repeat(999));
    vec![
        ("plain", Tarball::of(entries())),
        ("global header", global),
        ("long name", long),
        ("one block at the end", one_block),
        ("blocking factor", tape),
        ("junk", junk),
        ("empty", Vec::new()),
    ]
}

/// An extension header of this record.
fn pax(kind: u8, record: &str) -> Vec<u8> {
    let mut length = record.len() + 2;
    while length != record.len() + 2 + length.to_string().len() {
        length = record.len() + 2 + length.to_string().len();
    }
    let record = format!("{length} {record}\n");
    let mut header = tar::Header::new_ustar();
    header.set_path("PaxHeader").unwrap();
    header.as_old_mut().linkflag = [kind];
    header.set_size(record.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(record.as_bytes());
    bytes.resize(1024.max(bytes.len().next_multiple_of(512)), 0);
    bytes
}

pub fn archives(store: &Store) {
    let is_exact = store.graph().capabilities().exact_diffs;
    let base = store.fill("base", None, &Tarball::of([Entry::file("below", "x")]));
    for (index, (name, archive)) in odd_archives().iter().enumerate() {
        for parent in [None, Some(&base)] {
            let layer = store.fill(&format!("l{index}{}", u8::from(parent.is_some())), parent, archive);
            let diff = store.diff(&layer, parent);
            if is_exact {
                assert!(diff == *archive, "{name}");
            }
            assert_same_tree(store, &layer, parent, &diff);
        }
    }
}

pub fn replaced_contents(store: &Store) {
    let twice = [Entry::file("a", "one"), Entry::file("b", "b"), Entry::file("a", "another")];
    let layer = store.fill("twice", None, &Tarball::of(twice));
    let diff = store.diff(&layer, None);
    assert_same_tree(store, &layer, None, &diff);
}

pub fn edited(store: &Store) {
    let base = store.fill("base", None, &Tarball::of([Entry::file("below", "x")]));
    let archive = Tarball::of(entries());
    let edits: [fn(&Path); 4] = [
        |root| fs::write(root.join("z"), "other").unwrap(),
        |root| {
            // Of the same size and, as far as it can be set, of the same time.
            let mtime = root.join("z").metadata().unwrap().modified().unwrap();
            fs::write(root.join("z"), "LAST by name, first in the archive").unwrap();
            fs::File::options().write(true).open(root.join("z")).unwrap().set_modified(mtime).unwrap();
        },
        |root| fs::remove_file(root.join("dir/hard")).unwrap(),
        |root| fs::remove_file(root.join("below")).unwrap(),
    ];
    for (index, edit) in edits.iter().enumerate() {
        let layer = store.fill(&format!("edited{index}"), Some(&base), &archive);
        store.edit(&layer, edit);
        let diff = store.diff(&layer, Some(&base));
        assert!(diff != archive, "edit {index}");
        assert_same_tree(store, &layer, Some(&base), &diff);
    }
}

/// What `diff` makes is what `layer` is, but for the times of directories that only the names of files in them tell of: those are made when they are unpacked.
#[track_caller]
fn assert_same_tree(store: &Store, layer: &LayerId, parent: Option<&LayerId>, diff: &[u8]) {
    let again = store.fill(&format!("{layer}-again"), parent, diff);
    let tree = |layer: &LayerId| {
        let mut tree = store.tree(layer, Times::Seconds);
        let implied = |path: &Path| path.starts_with("implied") || path.starts_with("long");
        for (_, node) in tree.nodes.iter_mut().filter(|(path, node)| implied(path) && node.is_dir()) {
            node.mtime = (0, 0);
        }
        tree
    };
    tree(&again).assert_same(&tree(layer));
}
