//! Homes: where they can be, and what others put there.

use std::fs;

use graphdriver_core::{CreateOptions, ErrorKind, LayerKind, OpenOptions, Quota, Registry};

use crate::volume::{Volume, create, id, open_at, subvolume};

#[test]
fn elsewhere_than_on_btrfs_none_is_made() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let error = open_at(dir.path(), &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IncompatibleFs);
    assert!(error.to_string().contains("is on tmpfs, not on btrfs"), "{error}");
    let mut registry = Registry::new();
    registry.register(graphdriver_btrfs::DRIVER).unwrap();
    let options = OpenOptions::new(dir.path().join("root"), dir.path().join("run"));
    let error = registry.select(None, &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSupported);
    assert!(error.to_string().contains("not on btrfs"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn options_are_checked_first() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    for (option, part) in [
        ("btrfs.sise=5g", "known options are: ignore_chown_errors, min_space, size, sync"),
        ("btrfs.mountopt=nodev", "does not support mount options"),
        ("btrfs.size=much", "is no size"),
        ("btrfs.inodes=5", "btrfs limits space only"),
    ] {
        let error = open_at(dir.path(), &[option]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{option}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

/// Layers that another program made by the same means.
#[test]
#[ignore = "needs root"]
fn parents_are_known_whoever_made_the_snapshot() {
    let volume = Volume::new();
    let graph = volume.open();
    subvolume(&["create"], &[&volume.layer("base")]);
    subvolume(&["snapshot"], &[&volume.layer("base"), &volume.layer("theirs")]);
    create(&graph, "ours", Some("theirs"));
    let parent = |layer: &str| graph.parent(&id(layer)).unwrap();
    assert_eq!(
        (parent("base"), parent("theirs"), parent("ours")),
        (None, Some(id("base")), Some(id("theirs")))
    );
    let error = graph.remove(&id("base")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LayerInUse);
    assert!(error.to_string().contains("layer theirs was made on it"), "{error}");
    subvolume(&["delete"], &[&volume.layer("base")]);
    assert_eq!(parent("theirs"), None, "it is gone");
    // Another one of its name is another one.
    create(&graph, "base", None);
    assert_eq!(parent("theirs"), None);
}

#[test]
#[ignore = "needs root"]
fn a_directory_among_the_layers_is_told_of() {
    let volume = Volume::new();
    let graph = volume.open();
    fs::create_dir_all(volume.layer("copied").join("dir")).unwrap();
    assert_eq!(graph.layers().unwrap(), [id("copied")]);
    assert_eq!(graph.parent(&id("copied")).unwrap(), None);
    let error = graph.create(&id("child"), &CreateOptions::on(&id("copied"))).unwrap_err();
    assert!(error.to_string().contains("create snapshot"), "{error}");
    let problems = graph.driver().check(true).unwrap();
    assert!(problems.len() == 1 && problems[0].what.contains("not a subvolume"), "{problems:?}");
    graph.remove(&id("copied")).unwrap();
    assert_eq!(graph.driver().check(false).unwrap(), []);
}

/// A file system whose quotas are off pays for them from the first limited layer on.
#[test]
#[ignore = "needs root"]
fn quotas_are_turned_on_when_a_layer_is_limited() {
    let volume = Volume::new();
    let graph = volume.open();
    let quota = || {
        let status = graph.status().unwrap();
        status.into_iter().find(|(name, _)| name == "Quota").unwrap().1
    };
    create(&graph, "free", None);
    assert_eq!(quota(), "false: off until a layer is limited");
    let limit = Quota { bytes: Some(10 << 20), inodes: None };
    let options = CreateOptions { kind: LayerKind::ReadWrite, quota: limit, ..CreateOptions::default() };
    graph.create(&id("limited"), &options).unwrap();
    assert!(quota().starts_with("true"), "{}", quota());
    let file = volume.layer("limited").join("file");
    let error =
        fs::write(&file, vec![7; 20 << 20]).and_then(|()| fs::File::open(&file)?.sync_all()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::QuotaExceeded);
    fs::write(volume.layer("free").join("file"), vec![7; 20 << 20]).unwrap();

    graphdriver_sys::btrfs::qgroup::disable(fs::File::open(volume.path()).unwrap()).unwrap();
    let again = open_at(volume.path(), &["size=1g"]).unwrap();
    assert!(quota().starts_with("true"), "an option for limits needs them: {}", quota());
    drop(again);
}
