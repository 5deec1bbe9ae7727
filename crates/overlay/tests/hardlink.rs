//! Homes of Docker's older driver, made here from the documented layout.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graphdriver_core::{
    CreateOptions, DriverHome, ErrorKind, Graph, LayerApplyOptions, MountOptions, OpenOptions,
};
use graphdriver_overlay::HardLinkOverlay;
use support::{Store, archive, id, names, on};

/// A root as Docker leaves it: an image of two layers that share a file, and a container on the upper one.
fn dockers_root() -> Store {
    let store = Store::new();
    let home = store.home();
    for dir in ["base/root/dir", "image/root/dir", "container/upper", "container/work", "container/merged"] {
        fs::create_dir_all(home.join(dir)).unwrap();
    }
    fs::write(home.join("base/root/dir/file"), "shared").unwrap();
    fs::hard_link(home.join("base/root/dir/file"), home.join("image/root/dir/file")).unwrap();
    fs::write(home.join("image/root/new"), "new").unwrap();
    fs::write(home.join("container/upper/new"), "edited").unwrap();
    fs::write(home.join("container/lower-id"), "image").unwrap();
    store
}

fn open(store: &Store) -> Graph {
    let options = OpenOptions::new(store.root(), store.dir().join("run"));
    let place = DriverHome::new("overlay-hardlink", &options).unwrap();
    Graph::new(Arc::new(HardLinkOverlay::open(&place).unwrap()))
}

fn tree(store: &Store, layer: &str) -> PathBuf {
    store.home().join(layer).join("root")
}

fn inode(path: impl AsRef<Path>) -> u64 {
    path.as_ref().metadata().unwrap().ino()
}

#[test]
#[ignore = "needs root"]
fn dockers_layers_are_there() {
    let store = dockers_root();
    let graph = open(&store);
    assert_eq!(graph.layers().unwrap(), [id("base"), id("container"), id("image")]);
    assert_eq!(graph.parent(&id("container")).unwrap(), Some(id("image")));
    assert_eq!(graph.parent(&id("image")).unwrap(), None, "Docker keeps it elsewhere");
    assert_eq!(graph.check(false).unwrap(), []);
    let listed = |layer: &str, base: &str| {
        let changes = graph.changes(&id(layer), Some(&id(base))).unwrap();
        changes.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(listed("image", "base"), ["A /new"]);
    assert_eq!(listed("container", "image"), ["C /new"]);
    let mount = graph.mount(&id("container"), &MountOptions::default()).unwrap();
    assert_eq!(fs::read(mount.path().join("new")).unwrap(), b"edited");
    assert_eq!(fs::read(mount.path().join("dir/file")).unwrap(), b"shared");
    mount.unmount().unwrap();
    assert_eq!(graph.remove(&id("image")).unwrap_err().kind(), ErrorKind::LayerInUse);
    graph.remove(&id("container")).unwrap();
    graph.remove(&id("image")).unwrap();
    assert_eq!(names(tree(&store, "base")), ["dir"]);
    assert_eq!(store.mounts(), 0);
}

#[test]
#[ignore = "needs root"]
fn shared_files_are_never_written_to() {
    let store = dockers_root();
    let graph = open(&store);
    let fill = |layer: &str| {
        let archive = archive(&["dir/", "dir/file"]);
        let options = LayerApplyOptions::default();
        graph.create_filled(&id(layer), &on("image"), &mut &*archive, &options).unwrap();
    };
    fill("child");
    assert_eq!(inode(tree(&store, "child").join("new")), inode(tree(&store, "image").join("new")));
    let of_image = || fs::read_to_string(tree(&store, "image").join("dir/file")).unwrap();
    assert_eq!(of_image(), "shared", "an archive replaces files");
    assert_eq!(fs::read(tree(&store, "child").join("dir/file")).unwrap(), b"dir/file");
    support::write(&graph, "image", "dir/file", "written");
    assert_eq!(of_image(), "written");
    assert_eq!(fs::read(tree(&store, "base").join("dir/file")).unwrap(), b"shared");
    // Its files are its own now, until it gets a child.
    let own = inode(tree(&store, "image"));
    support::write(&graph, "image", "dir/file", "again");
    assert_eq!(inode(tree(&store, "image")), own);
    fill("child-2");
    support::write(&graph, "image", "new", "written");
    assert_eq!(fs::read(tree(&store, "child-2").join("new")).unwrap(), b"new");
    assert_ne!(inode(tree(&store, "image")), own);
    assert_eq!(names(store.home().join("tempdirs")), [""; 0]);
}

/// It would see the files go that others share with the layer below.
#[test]
#[ignore = "needs root"]
fn a_tree_is_not_replaced_below_a_mount() {
    let store = dockers_root();
    let graph = open(&store);
    let container = graph.mount(&id("container"), &MountOptions::default()).unwrap();
    let refused = graph.mount(&id("image"), &MountOptions::default()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LayerInUse);
    assert!(refused.to_string().contains("layer container, which is mounted"), "{refused}");
    let read_only = graph.mount(&id("image"), &MountOptions::read_only()).unwrap();
    assert_eq!(fs::read(read_only.path().join("new")).unwrap(), b"new");
    read_only.unmount().unwrap();
    assert_eq!(fs::read(container.path().join("dir/file")).unwrap(), b"shared");
    container.unmount().unwrap();
    support::write(&graph, "image", "new", "written");
    assert_eq!(fs::read(tree(&store, "image").join("new")).unwrap(), b"written");
}

#[test]
#[ignore = "needs root"]
fn a_child_of_a_layer_without_a_tree_has_a_copy_of_it() {
    let store = dockers_root();
    let graph = open(&store);
    let commit = CreateOptions::on(&id("container"));
    graph.create(&id("copy"), &commit).unwrap();
    assert_eq!(fs::read_to_string(store.home().join("copy/lower-id")).unwrap(), "image");
    assert_eq!(graph.parent(&id("copy")).unwrap(), Some(id("container")));
    support::write(&graph, "copy", "new", "of the copy");
    assert_eq!(fs::read(store.home().join("container/upper/new")).unwrap(), b"edited");
    // No file of a layer without a tree is shared.
    graph
        .create_filled(&id("filled"), &commit, &mut &*archive(&["file"]), &LayerApplyOptions::default())
        .unwrap();
    assert_eq!(names(tree(&store, "filled")), ["dir", "file", "new"]);
    assert_eq!(fs::read(tree(&store, "filled").join("new")).unwrap(), b"edited");
    assert_ne!(inode(tree(&store, "filled").join("dir/file")), inode(tree(&store, "image").join("dir/file")));
}
