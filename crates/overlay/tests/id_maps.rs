//! Layers under other ids than they have on disk.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use graphdriver_core::{ErrorKind, Graph, IdMap, IdMaps, LayerApplyOptions, MountOptions};
use graphdriver_overlay::{IdMapping, OverlayTuning};
use graphdriver_sys::xattr;

mod support;

use support::shifted::{each_way, maps, owner};
use support::{BOTH_WAYS, Store, base, id, names, on};

const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn through(maps: IdMaps) -> MountOptions {
    MountOptions { id_maps: maps, ..MountOptions::default() }
}

fn capability(path: impl AsRef<Path>) -> Option<Vec<u8>> {
    xattr::fget(fs::File::open(path).unwrap(), "security.capability").unwrap()
}

/// Three layers, `base`, `middle` and `top`, with files of several owners in the lower two.
fn fill(graph: &Graph) {
    graph.create(&id("base"), &base()).unwrap();
    let mount = graph.mount(&id("base"), &MountOptions::default()).unwrap();
    let at = |name: &str| mount.path().join(name);
    fs::create_dir(at("dir")).unwrap();
    for name in ["root", "user", "set-id", "capable", "dir/first", "beyond"] {
        fs::write(at(name), name).unwrap();
    }
    fs::hard_link(at("dir/first"), at("second")).unwrap();
    symlink("nowhere", at("link")).unwrap();
    std::os::unix::fs::lchown(at("link"), Some(3), Some(4)).unwrap();
    chown(at("user"), Some(5), Some(7)).unwrap();
    chown(at("dir/first"), Some(8), Some(9)).unwrap();
    chown(at("set-id"), Some(5), Some(7)).unwrap();
    fs::set_permissions(at("set-id"), fs::Permissions::from_mode(0o6755)).unwrap();
    xattr::fset(
        fs::File::open(at("capable")).unwrap(),
        "security.capability",
        &CAPABILITY,
        xattr::SetFlags::empty(),
    )
    .unwrap();
    mount.unmount().unwrap();
    graph.create(&id("middle"), &on("base")).unwrap();
    let mount = graph.mount(&id("middle"), &MountOptions::default()).unwrap();
    fs::write(mount.path().join("middle"), "middle").unwrap();
    chown(mount.path().join("middle"), Some(10), Some(11)).unwrap();
    fs::remove_file(mount.path().join("beyond")).unwrap();
    mount.unmount().unwrap();
    graph.create(&id("top"), &on("middle")).unwrap();
}

#[test]
#[ignore = "needs root"]
fn files_of_the_layers_below_are_shown_through_the_maps() {
    each_way(|store, graph| {
        fill(graph);
        graph.create(&id("other"), &on("middle")).unwrap();
        let mount = graph.mount(&id("top"), &through(maps(100_000))).unwrap();
        let other = graph.mount(&id("other"), &through(maps(200_000))).unwrap();
        assert_eq!(store.mounts(), 2, "nothing but the layers is mounted");
        for (mount, first) in [(&mount, 100_000), (&other, 200_000)] {
            let at = |name: &str| mount.path().join(name);
            assert_eq!(owner(at("root")), (first, first));
            assert_eq!(owner(at("user")), (first + 5, first + 7));
            assert_eq!(owner(at("link")), (first + 3, first + 4));
            assert_eq!(owner(at("middle")), (first + 10, first + 11));
            assert_eq!(owner(at("dir")), (first, first));
            assert_eq!(fs::metadata(at("set-id")).unwrap().mode() & 0o7777, 0o6755);
            assert!(!at("beyond").exists());
            // What is written has the host's ids, and what is copied up those that were shown.
            fs::write(at("new"), "").unwrap();
            chown(at("new"), Some(first + 1), Some(first + 2)).unwrap();
            chown(at("user"), Some(first + 6), Some(first + 7)).unwrap();
            fs::write(at("root"), "changed").unwrap();
            assert_eq!(owner(at("user")), (first + 6, first + 7));
            let upper = store.home().join(mount.layer()).join("diff");
            assert_eq!(owner(upper.join("root")), (first, first));
            assert_eq!(owner(upper.join("user")), (first + 6, first + 7));
            assert_eq!(owner(upper.join("new")), (first + 1, first + 2));
        }
        mount.unmount().unwrap();
        other.unmount().unwrap();
        assert_eq!(store.mounts(), 0);
        assert_eq!(owner(store.home().join("base/diff/user")), (5, 7), "the layer below is as it was");
        // Again, and read-only: the layer's own files are the host's.
        let read_only = MountOptions { read_only: true, ..through(maps(100_000)) };
        let mount = graph.mount(&id("top"), &read_only).unwrap();
        assert_eq!(owner(mount.path().join("new")), (100_001, 100_002));
        assert_eq!(owner(mount.path().join("dir/first")), (100_008, 100_009));
        assert!(fs::write(mount.path().join("new"), "").is_err());
        mount.unmount().unwrap();
    });
}

#[test]
#[ignore = "needs root"]
fn a_mount_through_maps_is_not_shared_with_who_wants_others() {
    let store = Store::new();
    let graph = store.open();
    fill(&graph);
    let mount = graph.mount(&id("top"), &through(maps(100_000))).unwrap();
    for other in [IdMaps::default(), maps(200_000)] {
        let error = graph.mount(&id("top"), &through(other.clone())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LayerInUse);
        let error = store.open().mount(&id("top"), &through(other)).unwrap_err();
        assert!(error.to_string().contains("uid 0:100000:1000 gid 0:100000:1000"), "{error}");
    }
    let again = store.open().mount(&id("top"), &through(maps(100_000))).unwrap();
    assert_eq!(again.path(), mount.path());
    again.unmount().unwrap();
    // Kept with its maps.
    mount.keep().unwrap();
    assert_eq!(graph.mount(&id("top"), &MountOptions::default()).unwrap_err().kind(), ErrorKind::LayerInUse);
    graph.unmount(&id("top")).unwrap();
    graph.mount(&id("top"), &MountOptions::default()).unwrap().unmount().unwrap();
}

#[test]
#[ignore = "needs root"]
fn five_hundred_layers_are_shown_through_maps() {
    let store = Store::new();
    let graph = store.open();
    graph.create(&id("layer-0"), &base()).unwrap();
    support::write(&graph, "layer-0", "file", "");
    for number in 1..=500 {
        graph.create(&id(&format!("layer-{number}")), &on(&format!("layer-{}", number - 1))).unwrap();
    }
    let mount = graph.mount(&id("layer-500"), &through(maps(100_000))).unwrap();
    assert_eq!(owner(mount.path().join("file")), (100_000, 100_000));
    mount.unmount().unwrap();
}

#[test]
#[ignore = "needs root"]
fn layers_elsewhere_are_shown_through_the_maps_too() {
    let store = Store::new();
    let graph = store.open();
    fill(&graph);
    // As for a layer that another program provides: outside of the store, behind a link.
    let elsewhere = store.dir().join("elsewhere");
    fs::rename(store.home().join("base/diff"), &elsewhere).unwrap();
    symlink(&elsewhere, store.home().join("base/diff")).unwrap();
    for mapping in [IdMapping::Detached, IdMapping::Namespace] {
        let mut tuning = OverlayTuning::default();
        tuning.id_mapping = Some(mapping);
        let graph = store.open_with(tuning);
        if !graph.capabilities().id_shifting {
            continue;
        }
        let mount = graph.mount(&id("top"), &through(maps(100_000))).unwrap();
        assert_eq!(owner(mount.path().join("user")), (100_005, 100_007));
        assert_eq!(owner(mount.path().join("middle")), (100_010, 100_011));
        mount.unmount().unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn maps_with_holes_are_shown_and_one_side_may_be_left_out() {
    let store = Store::new();
    let graph = store.open();
    fill(&graph);
    let uids = vec![
        IdMap { container_id: 0, host_id: 100_000, size: 5 },
        IdMap { container_id: 6, host_id: 300_000, size: 10 },
    ];
    let mount = graph.mount(&id("top"), &through(IdMaps::new(uids, Vec::new()).unwrap())).unwrap();
    assert_eq!(owner(mount.path().join("root")), (100_000, 0));
    assert_eq!(owner(mount.path().join("user")), (65534, 7), "an id without place");
    assert_eq!(owner(mount.path().join("middle")), (300_004, 11));
    mount.unmount().unwrap();
}

#[test]
#[ignore = "needs root"]
fn rewritten_owners_are_those_of_the_new_maps() {
    for api in BOTH_WAYS {
        let store = Store::new();
        let graph = store.open_by(api);
        fill(&graph);
        graph.update_layer_id_map(&id("top"), &IdMaps::default(), &maps(100_000)).unwrap();
        let layer = store.home().join("top");
        assert_eq!(names(layer.join("diff")), [""; 0]);
        assert_eq!(names(&layer), ["diff", "diff1", "link", "lower", "merged", "work"]);
        let mount = graph.mount(&id("top"), &MountOptions::default()).unwrap();
        let at = |name: &str| mount.path().join(name);
        assert_eq!(owner(at("")), (100_000, 100_000));
        assert_eq!(owner(at("root")), (100_000, 100_000));
        assert_eq!(owner(at("user")), (100_005, 100_007));
        assert_eq!(owner(at("link")), (100_003, 100_004));
        assert_eq!(owner(at("middle")), (100_010, 100_011));
        assert_eq!(fs::metadata(at("set-id")).unwrap().mode() & 0o7777, 0o6755);
        assert_eq!(capability(at("capable")).as_deref(), Some(&CAPABILITY[..]));
        let [first, second] = ["dir/first", "second"].map(|name| fs::metadata(at(name)).unwrap());
        assert_eq!((first.ino(), first.nlink(), first.uid()), (second.ino(), 2, 100_008));
        assert!(!at("beyond").exists());
        mount.unmount().unwrap();
        assert_eq!(owner(store.home().join("base/diff/user")), (5, 7), "the layer below is as it was");
    }
}

fn diff(graph: &Graph, layer: &str, below: &str, maps: &IdMaps) -> Vec<u8> {
    let mut diff = graph.diff(&id(layer), Some(&id(below)), maps).unwrap();
    let mut archive = Vec::new();
    diff.read_to_end(&mut archive).unwrap();
    diff.finish().unwrap();
    archive
}

/// Paths, kinds and owners in an archive.
fn entries(archive: &[u8]) -> Vec<(String, u8, u64, u64)> {
    let mut entries: Vec<_> = tar::Archive::new(archive)
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let path = entry.path().unwrap().to_str().unwrap().trim_end_matches('/').to_owned();
            let header = entry.header();
            (path, header.entry_type().as_byte(), header.uid().unwrap(), header.gid().unwrap())
        })
        .collect();
    entries.sort();
    entries
}

#[test]
#[ignore = "needs root"]
fn a_diff_after_the_rewrite_has_what_was_rotated_and_the_containers_ids() {
    let store = Store::new();
    let graph = store.open();
    fill(&graph);
    graph.update_layer_id_map(&id("top"), &IdMaps::default(), &maps(100_000)).unwrap();
    support::write(&graph, "top", "own", "own");
    let mount = graph.mount(&id("top"), &MountOptions::default()).unwrap();
    chown(mount.path().join("own"), Some(100_001), Some(100_002)).unwrap();
    fs::remove_file(mount.path().join("root")).unwrap();
    mount.unmount().unwrap();
    let found = entries(&diff(&graph, "top", "middle", &maps(100_000)));
    let owner = |path: &str| found.iter().find(|entry| entry.0 == path).map(|entry| (entry.2, entry.3));
    assert_eq!(owner("own"), Some((1, 2)));
    assert_eq!(owner("user"), Some((5, 7)));
    assert_eq!(owner("dir/first"), Some((8, 9)));
    assert_eq!(owner("root"), None);
    assert!(owner(".wh.root").is_some(), "{found:?}");
    let directories = graph.driver().native_diff().unwrap();
    assert!(directories.diff(&id("top"), Some(&id("middle")), &maps(100_000)).unwrap().is_some());
    let mut naive = OverlayTuning::default();
    naive.native_diff = false;
    let naive = store.open_with(naive);
    assert_eq!(found, entries(&diff(&naive, "top", "middle", &maps(100_000))));
    assert_eq!(
        graph.changes(&id("top"), Some(&id("middle"))).unwrap(),
        naive.changes(&id("top"), Some(&id("middle"))).unwrap()
    );
}

#[test]
#[ignore = "needs root"]
fn owners_are_rewritten_twice() {
    let store = Store::new();
    let graph = store.open();
    fill(&graph);
    graph.update_layer_id_map(&id("top"), &IdMaps::default(), &maps(100_000)).unwrap();
    graph.update_layer_id_map(&id("top"), &maps(100_000), &maps(200_000)).unwrap();
    let layer = store.home().join("top");
    assert_eq!(names(&layer), ["diff", "diff1", "diff2", "link", "lower", "merged", "work"]);
    // With something in its own directory, which is kept below.
    support::write(&graph, "top", "own", "");
    chown(layer.join("diff/own"), Some(200_001), Some(200_001)).unwrap();
    graph.update_layer_id_map(&id("top"), &maps(200_000), &maps(300_000)).unwrap();
    assert_eq!(names(layer.join("diff2")), ["own"]);
    assert_eq!(
        names(&layer),
        ["diff", "diff1", "diff2", "diff3", "diff4", "link", "lower", "merged", "work"]
    );
    let mount = graph.mount(&id("top"), &MountOptions::default()).unwrap();
    assert_eq!(owner(mount.path()), (300_000, 300_000));
    assert_eq!(owner(mount.path().join("own")), (300_001, 300_001));
    assert_eq!(owner(mount.path().join("user")), (300_005, 300_007));
    assert_eq!(owner(mount.path().join("middle")), (300_010, 300_011));
    mount.unmount().unwrap();
    graph.remove(&id("top")).unwrap();
    assert!(!layer.exists());
}

#[test]
#[ignore = "needs root"]
fn an_owner_without_place_is_named_and_nothing_changes() {
    let store = Store::new();
    let graph = store.open();
    fill(&graph);
    support::write(&graph, "top", "own", "");
    chown(store.home().join("top/diff/own"), Some(77_777), Some(0)).unwrap();
    let before = names(store.home().join("top"));
    let error = graph.update_layer_id_map(&id("top"), &maps(0), &maps(100_000)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let report = error.report().to_string();
    assert!(report.contains("own") && report.contains("77777"), "{report}");
    assert_eq!(names(store.home().join("top")), before);
    assert_eq!(names(store.home().join("tempdirs")), [""; 0]);
    assert_eq!(store.mounts(), 0);
}

#[test]
#[ignore = "needs root"]
fn a_layer_in_use_is_not_rewritten() {
    let store = Store::new();
    let graph = store.open();
    fill(&graph);
    let update = |layer: &str| graph.update_layer_id_map(&id(layer), &IdMaps::default(), &maps(100_000));
    let mount = graph.mount(&id("top"), &MountOptions::default()).unwrap();
    assert_eq!(update("top").unwrap_err().kind(), ErrorKind::LayerInUse);
    mount.unmount().unwrap();
    let error = update("middle").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LayerInUse);
    assert!(error.to_string().contains("top"), "{error}");
    assert_eq!(update("missing").unwrap_err().kind(), ErrorKind::LayerUnknown);
    update("top").unwrap();
}

/// What a killed process had begun is done when the home is opened, or the layer is used.
#[test]
#[ignore = "needs root"]
fn a_rotation_that_was_begun_is_finished() {
    for reopen in [true, false] {
        let store = Store::new();
        let graph = store.open();
        fill(&graph);
        let layer = store.home().join("top");
        fs::create_dir_all(layer.join("rotation/diff1")).unwrap();
        fs::write(layer.join("rotation/diff1/file"), "rewritten").unwrap();
        fs::create_dir_all(store.home().join("tempdirs/temp-dir-of-a-killed-process")).unwrap();
        if reopen {
            store.open();
            assert_eq!(names(&layer), ["diff", "diff1", "link", "lower", "merged", "work"]);
        }
        // A child reads the directories of its parent.
        graph.create(&id("child"), &on("top")).unwrap();
        assert_eq!(names(&layer), ["diff", "diff1", "link", "lower", "merged", "work"]);
        let mount = graph.mount(&id("child"), &MountOptions::default()).unwrap();
        assert_eq!(fs::read_to_string(mount.path().join("file")).unwrap(), "rewritten");
        mount.unmount().unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn shifting_is_switched_off_by_an_option() {
    let store = Store::new();
    let graph = store.open_with_options(&["overlay.disable_idmap=true"]);
    fill(&graph);
    let shift = graph.driver().id_shift().unwrap();
    assert!(!shift.supports_shifting(&maps(100_000)) && !graph.capabilities().id_shifting);
    assert!(graph.status().unwrap().contains(&("Supports shifting".to_owned(), "false".to_owned())));
    let features = graph.features();
    let found = features.iter().find(|feature| feature.name() == "id_mapped_lowers").unwrap();
    assert!(found.reason().unwrap().contains("disable_idmap"), "{found:?}");
    let mount = graph.mount(&id("top"), &through(maps(100_000))).unwrap();
    assert_eq!(owner(mount.path().join("user")), (5, 7));
    mount.unmount().unwrap();
    let graph = store.open();
    assert!(graph.driver().id_shift().unwrap().supports_shifting(&maps(100_000)), "{:?}", graph.status());
}

#[test]
#[ignore = "needs root"]
fn contents_applied_under_maps_come_back_with_the_containers_ids() {
    let store = Store::new();
    let graph = store.open();
    let create = graphdriver_core::CreateOptions { id_maps: maps(100_000), ..base() };
    let apply = LayerApplyOptions { id_maps: maps(100_000), ..LayerApplyOptions::default() };
    let archive = support::archive(&["dir/", "dir/file"]);
    graph.create_filled(&id("base"), &create, &mut &*archive, &apply).unwrap();
    assert_eq!(owner(store.home().join("base/diff")), (100_000, 100_000));
    assert_eq!(owner(store.home().join("base/diff/dir/file")), (100_000, 100_000));
    let mut diff = graph.diff(&id("base"), None, &maps(100_000)).unwrap();
    let mut out = Vec::new();
    diff.read_to_end(&mut out).unwrap();
    diff.finish().unwrap();
    assert!(entries(&out).iter().all(|(.., uid, gid)| (*uid, *gid) == (0, 0)), "{:?}", entries(&out));
}
