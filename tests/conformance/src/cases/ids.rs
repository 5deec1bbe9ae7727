//! Layers under other ids.

use std::time::Duration;

use graphdriver_archive::{IdMap, IdMaps};
use graphdriver_core::{CreateOptions, ErrorKind, LayerApplyOptions, MountOptions};

use crate::process::update_half_way;
use crate::store::{Store, fails, id};
use crate::tarball::{Entry, Tarball};
use crate::tree::{Times, Tree};

fn maps(host_id: u32, size: u32) -> IdMaps {
    let range = vec![IdMap { container_id: 0, host_id, size }];
    IdMaps::new(range.clone(), range).unwrap()
}

pub fn create_under_maps(store: &Store) {
    let maps = maps(1000, 100);
    let create = CreateOptions { id_maps: maps.clone(), ..CreateOptions::default() };
    let apply = LayerApplyOptions { id_maps: maps.clone(), ..LayerApplyOptions::default() };
    let archive = Tarball::of([Entry::file("root's", ""), Entry::file("user's", "").owner(5, 6)]);
    let base = id("base");
    store.graph().create_filled(&base, &create, &mut &*archive, &apply).unwrap();
    let tree = store.tree(&base, Times::Seconds);
    let owner = |path| (tree.node(path).uid, tree.node(path).gid);
    assert_eq!([owner(""), owner("root's"), owner("user's")], [(1000, 1000), (1000, 1000), (1005, 1006)]);
    // The archive that comes out has the container's ids again.
    let mut diff = store.graph().diff(&base, None, &maps).unwrap();
    let mut out = Vec::new();
    std::io::Read::read_to_end(&mut diff, &mut out).unwrap();
    diff.finish().unwrap();
    let again = store.fill("again", None, &out);
    let tree = store.tree(&again, Times::Seconds);
    assert_eq!((tree.node("user's").uid, tree.node("user's").gid), (5, 6));
    // An id that the maps do not have is refused, and nothing is left.
    let beyond = Tarball::of([Entry::file("nobody's", "").owner(100, 0)]);
    let result = store.graph().create_filled(&id("beyond"), &create, &mut &*beyond, &apply);
    fails(result, ErrorKind::InvalidArchive);
    assert!(!store.graph().exists(&id("beyond")).unwrap());
}

pub fn update(store: &Store) {
    let base = store.fill(
        "base",
        None,
        &Tarball::of([
            Entry::dir("dir").owner(3, 4).mode(0o2755),
            Entry::file("dir/file", "data").owner(5, 6).mode(0o4755),
            Entry::hard_link("dir/link", "dir/file"),
            Entry::symlink("symlink", "nowhere").owner(7, 8),
        ]),
    );
    let child = store.create("child", Some(&base));
    let before = store.tree(&child, Times::Nanoseconds);
    store.graph().update_layer_id_map(&child, &IdMaps::default(), &maps(1000, 100)).unwrap();
    let mut expected = before.clone();
    for node in expected.nodes.values_mut() {
        (node.uid, node.gid) = (node.uid + 1000, node.gid + 1000);
    }
    store.tree(&child, Times::Nanoseconds).assert_same(&expected);
    store.tree(&base, Times::Nanoseconds).assert_same(&before);
    let missing = store.graph().update_layer_id_map(&id("missing"), &IdMaps::default(), &maps(1000, 100));
    fails(missing, ErrorKind::LayerUnknown);
}

/// Where a layer cannot get other owners, it keeps those that it has.
pub fn update_refused(store: &Store) {
    let base = store.fill("base", None, &Tarball::of([Entry::file("file", "data").owner(5, 6)]));
    let child = store.create("child", Some(&base));
    let before = store.tree(&child, Times::Nanoseconds);
    let refused = store.graph().update_layer_id_map(&child, &IdMaps::default(), &maps(1000, 100));
    fails(refused, ErrorKind::NotSupported);
    store.tree(&child, Times::Nanoseconds).assert_same(&before);
    let missing = store.graph().update_layer_id_map(&id("missing"), &IdMaps::default(), &maps(1000, 100));
    fails(missing, ErrorKind::LayerUnknown);
}

/// A mount through maps shows the layers below with the host's ids if the driver says so, and as they are otherwise.
pub fn shown(store: &Store) {
    let base = store.fill(
        "base",
        None,
        &Tarball::of([
            Entry::file("file", "data").owner(5, 6).mode(0o4755),
            Entry::symlink("link", "x").owner(7, 8),
        ]),
    );
    let before = store.tree(&base, Times::Nanoseconds);
    let shifts = store.graph().capabilities().id_shifting;
    let shift = store.graph().driver().id_shift();
    assert_eq!(shift.is_some_and(|shift| shift.supports_shifting(&maps(1000, 100))), shifts);
    for (name, first) in [("one", 1000), ("other", 2000)] {
        let layer = store.create(name, Some(&base));
        let options = MountOptions { id_maps: maps(first, 100), ..MountOptions::default() };
        let mount = store.graph().mount(&layer, &options).unwrap();
        let tree = Tree::read(mount.path(), Times::Nanoseconds);
        mount.unmount().unwrap();
        let by = if shifts { first } else { 0 };
        for path in ["file", "link"] {
            let (node, old) = (tree.node(path), before.node(path));
            assert_eq!((node.uid, node.gid, node.mode), (old.uid + by, old.gid + by, old.mode), "{path}");
        }
        store.tree(&layer, Times::Nanoseconds).assert_same(&before);
    }
}

/// Mounts that are attached nowhere show one layer through several maps at once, its own files too.
pub fn detached(store: &Store) {
    let base = store.fill("base", None, &Tarball::of([Entry::file("below", "data").owner(5, 6)]));
    let layer =
        store.fill("layer", Some(&base), &Tarball::of([Entry::file("own", "data").owner(7, 8).mode(0o4755)]));
    let configuration = store.configuration();
    if !store.graph().capabilities().id_shifting || configuration.by_fuse {
        fails(store.graph().mount_detached(&layer, &maps(1000, 100)), ErrorKind::NotSupported);
        return;
    }
    let mounts = [1000, 2000, 3000]
        .map(|first| (first, store.graph().mount_detached(&layer, &maps(first, 100)).unwrap()));
    let expected = store.tree(&layer, Times::Nanoseconds);
    for (first, mount) in &mounts {
        let mut tree = Tree::read(&mount.path(), Times::Nanoseconds);
        for node in tree.nodes.values_mut() {
            (node.uid, node.gid) = (node.uid - first, node.gid - first);
        }
        tree.assert_same(&expected);
    }
    fails(store.graph().remove(&layer), ErrorKind::LayerInUse);
    drop(mounts);
    store.remove(&layer);
}

/// Whenever the process is killed, the layer has its old owners or its new ones.
pub fn update_killed(store: &Store) {
    let entries =
        (0..200).map(|number| Entry::file(format!("dir-{}/file-{number}", number % 20), "data").owner(5, 6));
    let base = store.fill("base", None, &Tarball::of(entries));
    for round in 0..20_u32 {
        let child = store.create(&format!("child-{round}"), Some(&base));
        let before = store.tree(&child, Times::Seconds);
        let mut after = before.clone();
        for node in after.nodes.values_mut() {
            (node.uid, node.gid) = (node.uid + 1000, node.gid + 1000);
        }
        // From before anything is done until after all of it, most likely; whatever is hit, it has to be right.
        let killed_after = Duration::from_micros(u64::from(round) * 2500);
        update_half_way(store.configuration(), store.dir(), &child, killed_after);
        // One that opens the home anew, and one that has had it open all along.
        let graph = store.opening(round as usize);
        let mount = graph.mount(&child, &MountOptions::default()).unwrap();
        let found = Tree::read(mount.path(), Times::Seconds);
        mount.unmount().unwrap();
        if found != after {
            found.assert_same(&before);
        }
        store.remove(&child);
    }
}
