//! Mounts of layers through id maps that are attached nowhere.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use graphdriver_core::{ErrorKind, Graph, IdMaps, MountOptions, OpenOptions};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};

mod support;

use support::shifted::{each_way, maps, owner};
use support::{Store, base, id, names, on, write};

/// `base` with files of several owners, `middle` without the file `gone`, `top` with a file of its own.
fn fill(graph: &Graph) {
    graph.create(&id("base"), &base()).unwrap();
    let mount = graph.mount(&id("base"), &MountOptions::default()).unwrap();
    for name in ["file", "gone"] {
        fs::write(mount.path().join(name), name).unwrap();
    }
    chown(mount.path().join("file"), Some(5), Some(7)).unwrap();
    fs::set_permissions(mount.path().join("file"), fs::Permissions::from_mode(0o6755)).unwrap();
    mount.unmount().unwrap();
    graph.create(&id("middle"), &on("base")).unwrap();
    let mount = graph.mount(&id("middle"), &MountOptions::default()).unwrap();
    fs::remove_file(mount.path().join("gone")).unwrap();
    mount.unmount().unwrap();
    graph.create(&id("top"), &on("middle")).unwrap();
    write(graph, "top", "own", "");
    chown(graph.mount(&id("top"), &MountOptions::default()).unwrap().path().join("own"), Some(8), Some(9))
        .unwrap();
}

#[test]
#[ignore = "needs root"]
fn one_layer_is_shown_through_several_maps_at_once() {
    each_way(|store, graph| {
        fill(graph);
        for (layer, found) in
            [("top", &["file", "own"][..]), ("middle", &["file"]), ("base", &["file", "gone"])]
        {
            let all = [100_000, 200_000, 0]
                .map(|first| (first, graph.mount_detached(&id(layer), &maps(first)).unwrap()));
            assert_eq!(store.mounts(), 0);
            for (first, mount) in &all {
                assert_eq!(mount.layer(), &id(layer));
                assert_eq!(owner(mount.path().join("")), (*first, *first));
                assert_eq!(owner(mount.path().join("file")), (first + 5, first + 7));
                assert_eq!(fs::metadata(mount.path().join("file")).unwrap().mode() & 0o7777, 0o6755);
                assert_eq!(names(mount.path()), found);
                assert!(fs::write(mount.path().join("file"), "").is_err());
                let file = openat(mount, "file", OFlag::O_RDONLY, Mode::empty()).unwrap();
                assert_eq!(fstat(file).unwrap().st_uid, first + 5);
            }
            if layer == "top" {
                assert!(
                    all.iter()
                        .all(|(first, mount)| owner(mount.path().join("own")) == (first + 8, first + 9))
                );
            }
        }
        assert_eq!(names(store.home().join("tempdirs")), [""; 0]);
    });
}

#[test]
#[ignore = "needs root"]
fn a_layer_stays_while_it_is_mounted_anywhere() {
    let store = Store::new();
    let graph = store.open();
    fill(&graph);
    let one = graph.mount_detached(&id("top"), &maps(100_000)).unwrap();
    let other = graph.mount_detached(&id("top"), &maps(200_000)).unwrap();
    for graph in [&graph, &store.open()] {
        assert_eq!(graph.remove(&id("top")).unwrap_err().kind(), ErrorKind::LayerInUse);
        let update = graph.update_layer_id_map(&id("top"), &IdMaps::default(), &maps(300_000));
        assert_eq!(update.unwrap_err().kind(), ErrorKind::LayerInUse);
    }
    // Beside them it can be mounted and written to. That mount goes with the last of them.
    write(&graph, "top", "new", "");
    drop(one);
    assert_eq!(graph.remove(&id("top")).unwrap_err().kind(), ErrorKind::LayerInUse);
    assert_eq!(owner(other.path().join("own")), (200_008, 200_009));
    drop(other);
    assert_eq!(store.mounts(), 0);
    graph.remove(&id("top")).unwrap();
    assert_eq!(graph.mount_detached(&id("top"), &maps(0)).unwrap_err().kind(), ErrorKind::LayerUnknown);
}

#[test]
#[ignore = "needs root"]
fn layers_of_other_stores_and_rewritten_ones() {
    let store = Store::new();
    fill(&store.open());
    let own = tempfile::tempdir_in(store.dir()).unwrap();
    let at = |path: &str| own.path().join(path);
    let option = format!("overlay.imagestore={}", store.root().display()).parse().unwrap();
    let graph = support::open(&OpenOptions::new(at("root"), at("run")).with_options(vec![option]));
    for layer in ["base", "top"] {
        let mounts = [100_000, 200_000].map(|first| graph.mount_detached(&id(layer), &maps(first)).unwrap());
        assert_eq!(
            mounts.each_ref().map(|mount| owner(mount.path().join("file"))),
            [(100_005, 100_007), (200_005, 200_007)]
        );
    }
    graph.create(&id("copy"), &on("top")).unwrap();
    graph.update_layer_id_map(&id("copy"), &IdMaps::default(), &maps(500)).unwrap();
    write(&graph, "copy", "new", "");
    let mount = graph.mount_detached(&id("copy"), &maps(100_000)).unwrap();
    assert_eq!(
        (owner(mount.path().join("own")), owner(mount.path().join("new"))),
        ((100_508, 100_509), (100_000, 100_000))
    );
}

#[test]
#[ignore = "needs root"]
fn as_many_layers_as_the_kernel_stacks() {
    let store = Store::new();
    let graph = store.open();
    graph.create(&id("layer-1"), &base()).unwrap();
    write(&graph, "layer-1", "file", "");
    for number in 2..=501 {
        graph.create(&id(&format!("layer-{number}")), &on(&format!("layer-{}", number - 1))).unwrap();
    }
    let mount = graph.mount_detached(&id("layer-500"), &maps(100_000)).unwrap();
    assert_eq!(owner(mount.path().join("file")), (100_000, 100_000));
    let error = graph.mount_detached(&id("layer-501"), &maps(100_000)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("500"), "{error}");
}

#[test]
#[ignore = "needs root"]
fn without_id_mapping_it_says_why() {
    let store = Store::new();
    let graph = store.open_with_options(&["overlay.disable_idmap=true"]);
    fill(&graph);
    let error = graph.mount_detached(&id("top"), &maps(100_000)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSupported);
    assert!(error.to_string().contains("disable_idmap"), "{error}");
}
