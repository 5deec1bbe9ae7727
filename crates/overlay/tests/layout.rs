//! What layers look like on disk, how they come and go, and what is mended.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use graphdriver_core::{CreateOptions, ErrorKind, IdMap, IdMaps, LayerKind, MountOptions, Quota};
use support::{Store, base, id, names, on, write};

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
#[ignore = "needs root"]
fn a_base_layer_and_a_child_as_the_peers_make_them() {
    let store = Store::new();
    let (graph, home) = (store.open(), store.home());
    graph.create(&id("base"), &base()).unwrap();
    graph.create(&id("child"), &on("base")).unwrap();
    assert_eq!(names(home.join("base")), ["diff", "empty", "link", "merged", "work"]);
    assert_eq!(names(home.join("child")), ["diff", "link", "lower", "merged", "work"]);
    assert_eq!((mode(&home), mode(home.join("l")), mode(home.join("tempdirs"))), (0o755, 0o755, 0o700));
    for (path, expected) in [
        ("base", 0o700),
        ("base/diff", 0o555),
        ("base/work", 0o700),
        ("base/merged", 0o700),
        ("base/empty", 0o700),
        ("base/link", 0o644),
        ("child/lower", 0o644),
    ] {
        assert_eq!(mode(home.join(path)), expected, "{path}");
    }
    let links = ["base", "child"].map(|layer| read(home.join(layer).join("link")));
    for (layer, link) in ["base", "child"].iter().zip(&links) {
        assert_eq!(link.len(), 26);
        assert_eq!(
            fs::read_link(home.join("l").join(link)).unwrap(),
            Path::new("..").join(layer).join("diff")
        );
    }
    assert_eq!(read(home.join("child/lower")), format!("l/{}", links[0]));
    graph.create(&id("grandchild"), &on("child")).unwrap();
    assert_eq!(read(home.join("grandchild/lower")), format!("l/{}:l/{}", links[1], links[0]));
    assert!(names(home.join("tempdirs")).is_empty());
}

#[test]
#[ignore = "needs root"]
fn the_root_directory_looks_like_the_parents() {
    let store = Store::new();
    let (graph, home) = (store.open(), store.home());
    graph.create(&id("base"), &base()).unwrap();
    fs::set_permissions(home.join("base/diff"), fs::Permissions::from_mode(0o1711)).unwrap();
    chown(home.join("base/diff"), Some(1), Some(2)).unwrap();
    // `chown` takes nothing from a directory's mode, so this is the sticky bit that it had.
    graph.create(&id("child"), &on("base")).unwrap();
    let metadata = fs::metadata(home.join("child/diff")).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()), (0o1711, 1, 2));
}

#[test]
#[ignore = "needs root"]
fn directories_belong_to_the_root_of_the_maps() {
    let store = Store::new();
    let (graph, home) = (store.open(), store.home());
    let map = |host_id| vec![IdMap { container_id: 0, host_id, size: 65536 }];
    let id_maps = IdMaps::new(map(100_000), map(200_000)).unwrap();
    graph.create(&id("base"), &CreateOptions { id_maps, ..base() }).unwrap();
    for path in ["base", "base/diff", "base/work", "base/merged", "base/empty"] {
        let metadata = fs::metadata(home.join(path)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (100_000, 200_000), "{path}");
    }
}

#[test]
#[ignore = "needs root"]
fn wrong_creations_change_nothing() {
    let store = Store::new();
    let (graph, home) = (store.open(), store.home());
    graph.create(&id("base"), &base()).unwrap();
    write(&graph, "base", "file", "kept");
    let before = (names(&home), names(home.join("l")));
    let quota = Quota { bytes: Some(1 << 20), inodes: None };
    for (layer, options, expected) in [
        ("base", base(), ErrorKind::LayerExists),
        ("base", on("base"), ErrorKind::LayerExists),
        ("child", on("missing"), ErrorKind::ParentUnknown),
        ("child", CreateOptions { quota, kind: LayerKind::ReadWrite, ..base() }, ErrorKind::NotSupported),
    ] {
        let error = graph.create(&id(layer), &options).unwrap_err();
        assert_eq!(error.kind(), expected, "{}", error.report());
    }
    let error = graph.driver().create_from_template(&id("copy"), &id("missing"), &base()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ParentUnknown);
    assert_eq!((names(&home), names(home.join("l"))), before);
    assert_eq!(read(home.join("base/diff/file")), "kept");
}

#[test]
#[ignore = "needs root"]
fn a_template_is_the_parent_of_its_copies() {
    let store = Store::new();
    let graph = store.open();
    graph.create(&id("base"), &base()).unwrap();
    graph.create(&id("template"), &on("base")).unwrap();
    graph.create_from_template(&id("copy"), &id("template"), &on("base")).unwrap();
    assert_eq!(graph.parent(&id("copy")).unwrap(), Some(id("template")));
    assert_eq!(graph.parent(&id("template")).unwrap(), Some(id("base")));
    assert_eq!(graph.parent(&id("base")).unwrap(), None);
    assert_eq!(graph.parent(&id("missing")).unwrap_err().kind(), ErrorKind::LayerUnknown);
}

#[test]
#[ignore = "needs root"]
fn removing_takes_the_link_along() {
    let store = Store::new();
    let (graph, home) = (store.open(), store.home());
    graph.create(&id("base"), &base()).unwrap();
    graph.create(&id("child"), &on("base")).unwrap();
    let error = graph.remove(&id("base")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LayerInUse);
    assert!(error.to_string().contains("layer child lies on it"), "{error}");
    let mount = graph.mount(&id("child"), &MountOptions::default()).unwrap();
    assert_eq!(graph.remove(&id("child")).unwrap_err().kind(), ErrorKind::LayerInUse);
    mount.unmount().unwrap();
    graph.remove(&id("child")).unwrap();
    let deferred = graph.remove_deferred(&id("base")).unwrap();
    assert!(!graph.exists(&id("base")).unwrap());
    assert!(graph.layers().unwrap().is_empty());
    assert_eq!(names(home.join("tempdirs")).len(), 2);
    deferred.finish().unwrap();
    assert!(names(home.join("l")).is_empty() && names(home.join("tempdirs")).is_empty());
    assert_eq!(graph.remove(&id("base")).unwrap_err().kind(), ErrorKind::LayerUnknown);
}

#[test]
#[ignore = "needs root"]
fn a_lost_link_file_never_costs_the_directory_of_links() {
    let store = Store::new();
    let (graph, home) = (store.open(), store.home());
    for layer in ["base", "other"] {
        graph.create(&id(layer), &base()).unwrap();
    }
    graph.create(&id("child"), &on("base")).unwrap();
    for contents in [Some(""), None] {
        match contents {
            Some(contents) => fs::write(home.join("base/link"), contents).unwrap(),
            None => fs::remove_file(home.join("base/link")).unwrap(),
        }
        // The child is found all the same, through the name that `l` has for its parent.
        assert_eq!(graph.remove(&id("base")).unwrap_err().kind(), ErrorKind::LayerInUse);
    }
    graph.remove(&id("child")).unwrap();
    graph.remove(&id("base")).unwrap();
    assert_eq!(names(home.join("l")), [read(home.join("other/link"))]);
}

#[test]
#[ignore = "needs root"]
fn lost_links_are_made_again() {
    let store = Store::new();
    let (graph, home) = (store.open(), store.home());
    graph.create(&id("base"), &base()).unwrap();
    write(&graph, "base", "file", "base");
    graph.create(&id("middle"), &on("base")).unwrap();
    graph.create(&id("top"), &on("middle")).unwrap();
    let links = names(home.join("l"));
    for link in &links {
        fs::remove_file(home.join("l").join(link)).unwrap();
    }
    assert_eq!(graph.parent(&id("top")).unwrap(), Some(id("middle")));
    let mount = graph.mount(&id("top"), &MountOptions::default()).unwrap();
    assert_eq!(read(mount.path().join("file")), "base");
    mount.unmount().unwrap();
    let restored = names(home.join("l"));
    assert_eq!(restored.len(), 2, "those of the layers below");
    assert!(restored.iter().all(|link| links.contains(link)));
}

#[test]
#[ignore = "needs root"]
fn lost_link_files_are_written_again() {
    let store = Store::new();
    let (graph, home) = (store.open(), store.home());
    graph.create(&id("base"), &base()).unwrap();
    let link = read(home.join("base/link"));
    fs::write(home.join("base/link"), "").unwrap();
    graph.create(&id("child"), &on("base")).unwrap();
    assert_eq!(read(home.join("base/link")), link);
    assert_eq!(read(home.join("child/lower")), format!("l/{link}"));
    // With both gone, nobody knows the old name.
    graph.remove(&id("child")).unwrap();
    fs::remove_file(home.join("base/link")).unwrap();
    fs::remove_file(home.join("l").join(&link)).unwrap();
    graph.create(&id("child"), &on("base")).unwrap();
    let renamed = read(home.join("base/link"));
    assert_ne!(renamed, link);
    assert_eq!(fs::read_link(home.join("l").join(renamed)).unwrap(), Path::new("../base/diff"));
    assert_eq!(graph.parent(&id("child")).unwrap(), Some(id("base")));
}

#[test]
#[ignore = "needs root"]
fn lower_files_in_the_newer_form() {
    let store = Store::new();
    let (graph, home) = (store.open(), store.home());
    graph.create(&id("base"), &base()).unwrap();
    write(&graph, "base", "file", "base");
    graph.create(&id("child"), &on("base")).unwrap();
    fs::write(home.join("child/lower"), "base/diff").unwrap();
    assert_eq!(graph.parent(&id("child")).unwrap(), Some(id("base")));
    graph.create(&id("grandchild"), &on("child")).unwrap();
    let link = read(home.join("child/link"));
    assert_eq!(read(home.join("grandchild/lower")), format!("l/{link}:base/diff"));
    let mount = graph.mount(&id("grandchild"), &MountOptions::read_only()).unwrap();
    assert_eq!(read(mount.path().join("file")), "base");
    mount.unmount().unwrap();
    assert_eq!(graph.remove(&id("base")).unwrap_err().kind(), ErrorKind::LayerInUse);
    fs::write(home.join("child/lower"), "../base/diff").unwrap();
    let error = graph.parent(&id("child")).unwrap_err();
    assert!(error.to_string().contains("\"../base/diff\" is neither"), "{error}");
}

#[test]
#[ignore = "needs root"]
fn a_home_of_dockers() {
    let store = Store::new();
    let home = store.home();
    fs::create_dir_all(home.join("l")).unwrap();
    for (layer, link, lower) in [("base", "BASE", None), ("base-init", "INIT", Some("l/BASE"))] {
        fs::create_dir_all(home.join(layer).join("diff")).unwrap();
        fs::write(home.join(layer).join("link"), link).unwrap();
        symlink(format!("../{layer}/diff"), home.join("l").join(link)).unwrap();
        if let Some(lower) = lower {
            fs::write(home.join(layer).join("lower"), lower).unwrap();
            fs::create_dir(home.join(layer).join("work")).unwrap();
        }
    }
    fs::write(home.join("base/committed"), "").unwrap();
    fs::write(home.join("base/diff/file"), "base").unwrap();
    let graph = store.open();
    assert_eq!(graph.layers().unwrap(), [id("base"), id("base-init")]);
    for layer in ["base", "base-init"] {
        for options in [MountOptions::default(), MountOptions::read_only()] {
            let mount = graph.mount(&id(layer), &options).unwrap();
            assert_eq!(read(mount.path().join("file")), "base");
            mount.unmount().unwrap();
        }
    }
    graph.create(&id("ours"), &on("base-init")).unwrap();
    assert_eq!(read(home.join("ours/lower")), "l/INIT:l/BASE");
}

#[test]
#[ignore = "needs root"]
fn what_is_no_layer_is_not_listed() {
    let store = Store::new();
    let (graph, home) = (store.open(), store.home());
    graph.create(&id("layer"), &base()).unwrap();
    for dir in ["staging", "incomplete", ".hidden"] {
        fs::create_dir(home.join(dir)).unwrap();
    }
    for file in [".has-mount-program", "backingFsBlockDev", "file"] {
        fs::write(home.join(file), "").unwrap();
    }
    assert_eq!(graph.layers().unwrap(), [id("layer")]);
    for missing in ["incomplete", "file", "missing"] {
        assert!(!graph.exists(&id(missing)).unwrap(), "{missing}");
        let error = graph.mount(&id(missing), &MountOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LayerUnknown);
    }
    // An empty directory is in nobody's way; one with something in it may be somebody's.
    graph.create(&id("incomplete"), &base()).unwrap();
    fs::create_dir_all(home.join("half-made/merged")).unwrap();
    let error = graph.create(&id("half-made"), &base()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LayerExists);
    assert!(error.to_string().contains("incomplete"), "{error}");
    graph.remove(&id("half-made")).unwrap();
    graph.create(&id("half-made"), &base()).unwrap();
}

#[test]
#[ignore = "needs root"]
fn metadata_and_status() {
    let store = Store::new();
    let (graph, home) = (store.open(), store.home());
    graph.create(&id("base"), &base()).unwrap();
    graph.create(&id("middle"), &on("base")).unwrap();
    graph.create(&id("top"), &on("middle")).unwrap();
    let path = |path: &str| home.join(path).display().to_string();
    let metadata = graph.metadata(&id("top")).unwrap();
    assert_eq!(metadata["UpperDir"], path("top/diff"));
    assert_eq!(metadata["WorkDir"], path("top/work"));
    assert_eq!(metadata["MergedDir"], path("top/merged"));
    assert_eq!(metadata["LowerDir"], format!("{}:{}", path("middle/diff"), path("base/diff")));
    assert!(!graph.metadata(&id("base")).unwrap().contains_key("LowerDir"));
    let keys: Vec<String> = graph.status().unwrap().into_iter().map(|(key, _)| key).collect();
    let peers = [
        "Backing Filesystem",
        "Supports d_type",
        "Native Overlay Diff",
        "Using metacopy",
        "Supports shifting",
        "Supports volatile",
    ];
    assert_eq!(keys[..peers.len()], peers);
}
