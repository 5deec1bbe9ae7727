//! Layers do not share what they must not share, and single files can be read.

use std::fs;
use std::io::Read;
use std::path::Path;

use graphdriver_core::{DedupHash, ErrorKind};
use nix::errno::Errno;

use crate::backing::Backing;
use crate::content;
use crate::store::{Store, fails, id};
use crate::tarball::{Entry, Tarball};
use crate::tree::Times;

pub fn file_getter(store: &Store) {
    let base = store.fill(
        "base",
        None,
        &Tarball::of([
            Entry::dir("dir"),
            Entry::file("dir/file", "base"),
            Entry::file("gone", ""),
            Entry::symlink("through", "dir"),
            Entry::symlink("out", "/etc"),
            Entry::fifo("fifo"),
        ]),
    );
    let layer = store.fill(
        "layer",
        Some(&base),
        &Tarball::of([Entry::file("new", "layer"), Entry::whiteout("gone")]),
    );
    let driver = store.graph().driver();
    let getter = driver.file_getter().expect("a driver that keeps its files where they can be read");
    let read = |path: &str| {
        let mut text = String::new();
        getter.open_file(&layer, Path::new(path)).unwrap().read_to_string(&mut text).unwrap();
        text
    };
    assert_eq!(read("new"), "layer");
    assert_eq!(read("/dir/file"), "base");
    fails(getter.open_file(&layer, Path::new("gone")), ErrorKind::Io);
    fails(getter.open_file(&layer, Path::new("missing")), ErrorKind::Io);
    // Only what lies in the layer is opened: links are not followed, and nothing is above the root.
    let errno = |path: &str| getter.open_file(&layer, Path::new(path)).unwrap_err().errno();
    assert_eq!(errno("through"), Some(Errno::ELOOP));
    assert_eq!(errno("out"), Some(Errno::ELOOP));
    for path in ["through/file", "out/hostname", "dir/file/x"] {
        assert!(matches!(errno(path), Some(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP)), "{path}");
    }
    for path in ["dir", "/", "dir/.."] {
        assert_eq!(errno(path), Some(Errno::EISDIR), "{path:?}");
    }
    assert_eq!(read("dir/../new"), "layer");
    fails(getter.open_file(&layer, Path::new("../../etc/hostname")), ErrorKind::PathEscape);
    fails(getter.open_file(&layer, Path::new("fifo")), ErrorKind::InvalidArgument);
    fails(getter.open_file(&id("missing"), Path::new("new")), ErrorKind::LayerUnknown);
}

/// Equal files of layers share their blocks where the file system can, and stay files of their own.
pub fn dedup(store: &Store) {
    let large = content::bytes(7, 3 << 20);
    let small = content::bytes(8, 9000);
    let one = store.fill(
        "one",
        None,
        &Tarball::of([Entry::file("large", &large), Entry::file("small", &small), Entry::file("empty", "")]),
    );
    let two = store.fill(
        "two",
        None,
        &Tarball::of([Entry::file("a", &small), Entry::file("b", &large), Entry::hard_link("c", "b")]),
    );
    let layers = [one.clone(), two.clone()];
    let graph = store.graph();
    fails(graph.dedup(&[one.clone(), id("missing")], DedupHash::Crc), ErrorKind::LayerUnknown);
    let before = layers.each_ref().map(|layer| store.tree(layer, Times::Nanoseconds));
    let expected = if store.backing().has_reflinks() { large.len() + small.len() } else { 0 };
    // Wherever the machine's own temporary directory is.
    let gained = graph.dedup(&layers, DedupHash::Sha256).unwrap();
    if store.backing() != Backing::Here {
        assert_eq!(gained, expected as u64);
    }
    for hash in [DedupHash::Crc, DedupHash::Size, DedupHash::Sha256] {
        assert_eq!(graph.dedup(&layers, hash).unwrap(), 0, "{hash:?}: all is shared already");
    }
    for (layer, before) in layers.iter().zip(&before) {
        store.tree(layer, Times::Nanoseconds).assert_same(before);
    }
    let changed = if store.configuration().keeps_images { store.create("above", Some(&two)) } else { two };
    store.edit(&changed, |root| fs::write(root.join("b"), "changed").unwrap());
    store.tree(&one, Times::Nanoseconds).assert_same(&before[0]);
}

/// Writing to one of two layers that may share blocks, names or inodes does not show in the other.
pub fn independent(store: &Store) {
    let large = content::bytes(1, 3 << 20);
    let base = store.fill(
        "base",
        None,
        &Tarball::of([Entry::file("large", &large), Entry::hard_link("link", "large")]),
    );
    let before = store.tree(&base, Times::Nanoseconds);
    let [left, right] = ["left", "right"].map(|name| store.create(name, Some(&base)));
    store.edit(&left, |root| {
        let file = fs::File::options().write(true).open(root.join("large")).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"changed", 1 << 20).unwrap();
        fs::remove_file(root.join("link")).unwrap();
    });
    store.tree(&base, Times::Nanoseconds).assert_same(&before);
    store.tree(&right, Times::Nanoseconds).assert_same(&before);
    let changed = store.tree(&left, Times::Seconds);
    assert_eq!(&changed.node("large").contents.whole()[1 << 20..][..7], b"changed");
    assert_eq!(store.changes(&left, Some(&base)), ["C /large", "D /link"]);
}

/// Free space tells whether a copy shares its blocks. Other cases use the file system at the same time, but none as much as this one.
pub fn share_blocks(store: &Store) {
    const BYTES: usize = 128 << 20;
    let used = || {
        let dir = fs::File::open(store.dir()).unwrap();
        nix::unistd::syncfs(&dir).unwrap();
        let stat = nix::sys::statvfs::fstatvfs(&dir).unwrap();
        (stat.blocks() - stat.blocks_free()) * stat.fragment_size()
    };
    let base = store.create("base", None);
    store.edit(&base, |root| {
        fs::write(root.join("large"), content::bytes(1, BYTES / 128).repeat(128)).unwrap();
    });
    let before = used();
    let child = store.create("child", Some(&base));
    let copied = used().saturating_sub(before) > BYTES as u64 / 2;
    assert_eq!(copied, !store.graph().capabilities().reflink);
    store.remove(&child);
}
