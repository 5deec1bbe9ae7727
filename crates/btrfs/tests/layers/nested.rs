//! Subvolumes that somebody made inside of a layer.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::volume::{Volume, create, id, subvolume};

/// Subvolumes in a directory, in each other, read-only ones, and links that lead out.
fn fill(root: &Path, outside: &Path) {
    fs::create_dir_all(root.join("a/b")).unwrap();
    for path in ["top", "a/b/sub", "a/b/sub/inner"] {
        subvolume(&["create"], &[&root.join(path)]);
        fs::write(root.join(path).join("file"), path).unwrap();
    }
    fs::create_dir(root.join("a/b/sub/inner/dir")).unwrap();
    subvolume(&["create"], &[&root.join("a/b/sub/inner/dir/innermost")]);
    subvolume(&["snapshot", "-r"], &[&root.join("top"), &root.join("a/read-only")]);
    // One that is read-only and has another inside.
    subvolume(&["create"], &[&root.join("closed")]);
    subvolume(&["create"], &[&root.join("closed/inner")]);
    let closed = root.join("closed");
    crate::test_volume::run(
        std::process::Command::new("btrfs")
            .args(["property", "set", "-ts"])
            .arg(&closed)
            .args(["ro", "true"]),
    );
    symlink(outside, root.join("a/link")).unwrap();
    symlink(outside, root.join("a/b/sub/link")).unwrap();
}

#[test]
#[ignore = "needs root"]
fn go_with_the_layer_and_nothing_else_does() {
    let volume = Volume::new();
    let graph = volume.open();
    let outside = volume.path().join("outside");
    subvolume(&["create"], &[&outside]);
    fs::write(outside.join("file"), "kept").unwrap();
    create(&graph, "base", None);
    create(&graph, "layer", Some("base"));
    fill(&volume.layer("layer"), &outside);
    assert!(volume.subvolumes().len() > 8);
    graph.remove(&id("layer")).unwrap();
    assert_eq!(volume.subvolumes(), ["outside", "root/btrfs/subvolumes/base"]);
    assert_eq!(fs::read(outside.join("file")).unwrap(), b"kept");
    assert_eq!(fs::read_dir(volume.home().join("tempdirs")).unwrap().count(), 0);
}

/// More than the kernel lists at once, and deeper than what is destroyed one by one.
#[test]
#[ignore = "needs root"]
fn may_be_many_and_deep() {
    let volume = Volume::new();
    let graph = volume.open();
    create(&graph, "many", None);
    create(&graph, "deep", None);
    let root = fs::File::open(volume.layer("many")).unwrap();
    for number in 0..300 {
        graphdriver_sys::btrfs::subvolume::create(&root, &*format!("sub-{number}")).unwrap();
    }
    drop(root);
    let mut path = volume.layer("deep");
    for _ in 0..40 {
        graphdriver_sys::btrfs::subvolume::create(fs::File::open(&path).unwrap(), "sub").unwrap();
        path.push("sub");
        fs::write(path.join("file"), "x").unwrap();
    }
    graph.remove(&id("many")).unwrap();
    graph.remove(&id("deep")).unwrap();
    assert_eq!(volume.subvolumes(), [""; 0]);
}

/// A process that was killed while it filled one layer and removed another.
#[test]
#[ignore = "needs root"]
fn are_swept_with_what_a_killed_process_left() {
    let volume = Volume::new();
    let graph = volume.open();
    create(&graph, "base", None);
    let left = volume.home().join("tempdirs/temp-dir-left");
    fs::create_dir(&left).unwrap();
    let outside = volume.layer("base");
    for name in ["layer", "0-removed"] {
        subvolume(&["create"], &[&left.join(name)]);
        fill(&left.join(name), &outside);
    }
    fs::write(left.join("file"), "").unwrap();
    fs::write(volume.home().join("tempdirs/lock-left"), "").unwrap();
    assert_eq!(graph.driver().check(false).unwrap().len(), 1);
    drop(volume.open());
    assert_eq!(volume.subvolumes(), ["root/btrfs/subvolumes/base"]);
    assert_eq!(fs::read_dir(volume.home().join("tempdirs")).unwrap().count(), 0);
    assert_eq!(graph.driver().check(false).unwrap(), []);
}

/// In a snapshot of the layer they are empty directories, as the kernel has it.
#[test]
#[ignore = "needs root"]
fn are_empty_directories_in_children() {
    let volume = Volume::new();
    let graph = volume.open();
    create(&graph, "base", None);
    subvolume(&["create"], &[&volume.layer("base").join("sub")]);
    fs::write(volume.layer("base").join("sub/file"), "x").unwrap();
    create(&graph, "child", Some("base"));
    assert_eq!(fs::read_dir(volume.layer("child").join("sub")).unwrap().count(), 0);
    let changes = graph.changes(&id("child"), Some(&id("base"))).unwrap();
    assert!(changes.iter().any(|change| change.to_string() == "D /sub/file"), "{changes:?}");
    graph.remove(&id("child")).unwrap();
    graph.remove(&id("base")).unwrap();
    assert_eq!(volume.subvolumes(), [""; 0]);
}
