//! Layers under other ids.

use graphdriver_archive::{IdMap, IdMaps};
use graphdriver_core::{CreateOptions, ErrorKind, LayerApplyOptions};

use crate::store::{Store, fails, id};
use crate::tarball::{Entry, Tarball};
use crate::tree::Times;

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
