//! Limits of layers that are subvolumes: what a subvolume refers to is counted by the file system.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use graphdriver_core::{
    CreateOptions, ErrorKind, Graph, LayerApplyOptions, LayerId, LayerKind, MountOptions, Quota,
};

use crate::backing::Backing;
use crate::store::{Store, fails, id};
use crate::tarball::{Entry, Tarball};
use crate::writer::write_to;

const MIB: u64 = 1 << 20;

/// Writers get so far less than they may: trees of the file system count too, and what is promised to writes under way is counted generously.
const SLACK: u64 = 4 * MIB;

pub fn limit(store: &Store) {
    assert!(store.graph().capabilities().quota);
    let layer = limited(store.graph(), "limited", 50 * MIB, None);
    store.edit(&layer, |root| {
        let dir = open_to_all(root);
        write_to(&dir, "half", 25 * MIB).assert_unlimited();
        let progress = write_to(&dir, "too much", 50 * MIB);
        progress.assert_limited();
        assert!((25 * MIB - SLACK..25 * MIB).contains(&progress.done), "{progress:?}");
    });
    assert_eq!(noted(store, &layer), Some(50 * MIB));
    let inodes = Quota { bytes: None, inodes: Some(10) };
    let message = refused(store, inodes, LayerKind::ReadWrite, ErrorKind::NotSupported);
    assert!(message.contains("inodes of layers cannot be limited: btrfs"), "{message}");
    let message = refused(store, bytes(MIB), LayerKind::ReadOnly, ErrorKind::InvalidArgument);
    assert!(message.contains("read-write layers only"), "{message}");
}

/// Where limits cannot be had, a layer that is to have one is refused rather than made without.
pub fn refused_by_namespace(store: &Store) {
    assert!(!store.graph().capabilities().quota);
    let message = refused(store, bytes(MIB), LayerKind::ReadWrite, ErrorKind::NotSupported);
    assert!(message.contains("cannot be limited: ") && message.contains("user namespace"), "{message}");
    for option in ["size=1g", "min_space=1m"] {
        let elsewhere = store.dir().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        let message =
            fails(store.configuration().open_with(&elsewhere, &[option]), ErrorKind::InvalidArgument);
        assert!(message.contains("cannot be limited"), "{message}");
        assert!(!elsewhere.join("root").exists(), "a home that cannot be used was made");
        fs::remove_dir(&elsewhere).unwrap();
    }
}

/// What a parent may hold says nothing of its children, and what it does hold counts for them unless quotas are simple.
pub fn of_snapshots(store: &Store) {
    let parent = limited(store.graph(), "parent", 20 * MIB, None);
    store.edit(&parent, |root| write_to(&open_to_all(root), "file", 10 * MIB).assert_unlimited());
    let free = store.create("free", Some(&parent));
    store.edit(&free, |root| write_to(&open_to_all(root), "more", 30 * MIB).assert_unlimited());
    let child = limited(store.graph(), "child", 30 * MIB, Some(&parent));
    let own = if store.backing() == Backing::BtrfsSimpleQuota { 30 * MIB } else { 20 * MIB };
    let progress = store.edit(&child, |root| write_to(&open_to_all(root), "more", 40 * MIB));
    progress.assert_limited();
    assert!((own - SLACK..own).contains(&progress.done), "{progress:?}");
    let copy = id("copy");
    let options = CreateOptions { quota: bytes(30 * MIB), ..writable() };
    store.graph().create_from_template(&copy, &parent, &options).unwrap();
    store.edit(&copy, |root| write_to(&open_to_all(root), "more", 40 * MIB)).assert_limited();
    store.edit(&parent, |root| write_to(&open_to_all(root), "more", 20 * MIB)).assert_limited();
}

pub fn defaults(store: &Store) {
    let graph = store.configuration().open_with(store.dir(), &["size=20m", "min_space=5m"]).unwrap();
    let of = |quota, name: &str| {
        let layer = id(name);
        graph.create(&layer, &CreateOptions { quota, ..writable() }).unwrap();
        noted(store, &layer)
    };
    assert_eq!(of(Quota::default(), "default"), Some(20 * MIB));
    assert_eq!(of(bytes(30 * MIB), "own"), Some(30 * MIB));
    assert_eq!(of(bytes(0), "none"), None);
    let small = CreateOptions { quota: bytes(MIB), ..writable() };
    let message = fails(graph.create(&id("small"), &small), ErrorKind::InvalidArgument);
    assert!(message.contains("storage size cannot be less than 5MiB"), "{message}");
    graph.create(&id("fixed"), &CreateOptions::default()).unwrap();
    assert_eq!(noted(store, &id("fixed")), None);
    let template = id("default");
    graph.create_from_template(&id("copy"), &template, &writable()).unwrap();
    assert_eq!(noted(store, &id("copy")), Some(20 * MIB), "a copy that is written to has the default, too");
    // Limits stay with the layer.
    let progress = store.edit(&template, |root| write_to(&open_to_all(root), "file", 30 * MIB));
    progress.assert_limited();
    store.edit(&id("none"), |root| write_to(&open_to_all(root), "file", 30 * MIB)).assert_unlimited();
}

pub fn after_reopen(store: &Store) {
    let layer = limited(store.graph(), "layer", 20 * MIB, None);
    let again = store.reopen();
    let mount = again.mount(&layer, &MountOptions::default()).unwrap();
    let progress = write_to(&open_to_all(mount.path()), "file", 40 * MIB);
    mount.unmount().unwrap();
    progress.assert_limited();
    assert!((20 * MIB - SLACK..20 * MIB).contains(&progress.done), "{progress:?}");
}

/// What is unpacked counts, wherever it was unpacked.
pub fn of_filled_layers(store: &Store) {
    let archive = Tarball::of([Entry::file("file", "x".repeat(10 << 20)), Entry::dir("dir")]);
    let fill = |layer: &LayerId, limit: u64| {
        let options = CreateOptions { quota: bytes(limit), ..writable() };
        store.graph().create_filled(layer, &options, &mut &*archive, &LayerApplyOptions::default())
    };
    let staged = id("staged");
    fill(&staged, 15 * MIB).unwrap();
    let existing = limited(store.graph(), "existing", 15 * MIB, None);
    store.apply(&existing, &archive);
    for layer in [&staged, &existing] {
        store.edit(layer, |root| write_to(&open_to_all(root), "more", 10 * MIB).assert_limited());
    }
    let before = store.files();
    let message = fails(fill(&id("small"), 5 * MIB), ErrorKind::NoSpace);
    assert!(message.contains("limited to 5MiB"), "{message}");
    store.assert_files(&before);
    let empty = limited(store.graph(), "empty", 5 * MIB, None);
    let applied = store.graph().apply(&empty, &mut &*archive, &LayerApplyOptions::default());
    let message = fails(applied, ErrorKind::NoSpace);
    assert!(message.contains("limited to 5MiB"), "{message}");
    store.edit(&empty, |root| assert_eq!(fs::read_dir(root).unwrap().count(), 0));
}

/// A layer of the name of one that is gone has nothing of its limit.
pub fn is_forgotten(store: &Store) {
    let before = store.files();
    let layer = limited(store.graph(), "layer", 5 * MIB, None);
    store.remove(&layer);
    assert_eq!(noted(store, &layer), None);
    store.create("layer", None);
    store.edit(&layer, |root| write_to(&open_to_all(root), "file", 10 * MIB).assert_unlimited());
    store.remove(&layer);
    // What a killed process, or another program, left.
    fs::create_dir_all(store.home().join("quotas")).unwrap();
    fs::write(limit_file(store, &layer), "1048576").unwrap();
    assert_eq!(store.graph().driver().check(false).unwrap().len(), 1);
    store.graph().cleanup().unwrap();
    assert_eq!(store.graph().driver().check(false).unwrap(), []);
    fs::remove_dir(store.home().join("quotas")).unwrap();
    store.assert_files(&before);
}

fn bytes(bytes: u64) -> Quota {
    Quota { bytes: Some(bytes), inodes: None }
}

fn writable() -> CreateOptions {
    CreateOptions { kind: LayerKind::ReadWrite, ..CreateOptions::default() }
}

#[track_caller]
fn limited(graph: &Graph, name: &str, limit: u64, parent: Option<&LayerId>) -> LayerId {
    let layer = id(name);
    let options = CreateOptions { quota: bytes(limit), parent: parent.cloned(), ..writable() };
    graph.create(&layer, &options).unwrap();
    layer
}

#[track_caller]
fn refused(store: &Store, quota: Quota, layer_kind: LayerKind, error_kind: ErrorKind) -> String {
    let before = store.files();
    let options = CreateOptions { quota, kind: layer_kind, ..CreateOptions::default() };
    let message = fails(store.graph().create(&id("refused"), &options), error_kind);
    store.assert_files(&before);
    message
}

/// The limit that the Go drivers would find.
fn noted(store: &Store, layer: &LayerId) -> Option<u64> {
    fs::read_to_string(limit_file(store, layer)).ok().map(|text| text.parse().unwrap())
}

fn limit_file(store: &Store, layer: &LayerId) -> PathBuf {
    store.home().join("quotas").join(layer)
}

/// A directory in the mounted layer that everybody may write to.
fn open_to_all(root: &Path) -> PathBuf {
    let dir = root.join("open to all");
    if !dir.exists() {
        fs::create_dir(&dir).unwrap();
    }
    fs::set_permissions(&dir, Permissions::from_mode(0o777)).unwrap();
    dir
}
