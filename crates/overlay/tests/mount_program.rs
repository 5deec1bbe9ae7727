//! Mounting with fuse-overlayfs: what it is given, what it leaves, and which homes need it.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::ffi::CStr;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use graphdriver_core::{
    CreateOptions, ErrorKind, Graph, IdMap, IdMaps, LayerApplyOptions, MountOptions, Result,
};
use graphdriver_sys::xattr;
use nix::sys::stat::{Mode, SFlag, mknod};
use support::{Store, archive, base, id, on};

const PROGRAM: &str = "mount_program=/usr/bin/fuse-overlayfs";
const MARK: &str = ".has-mount-program";

fn open(store: &Store) -> Graph {
    store.try_open(&[PROGRAM]).unwrap()
}

fn fill(graph: &Graph, layer: &str, create: &CreateOptions, archive: &[u8]) {
    graph.create_filled(&id(layer), create, &mut &*archive, &LayerApplyOptions::default()).unwrap();
}

fn set_xattr(path: &Path, name: &CStr, value: &[u8]) {
    xattr::fset(fs::File::open(path).unwrap(), name, value, xattr::SetFlags::empty()).unwrap();
}

fn fails(opened: Result<Graph>) -> String {
    let error = opened.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Prerequisites);
    error.report().to_string()
}

#[test]
#[ignore = "needs root"]
fn whiteouts_are_files_on_disk_and_work() {
    let store = Store::new();
    let graph = open(&store);
    fill(&graph, "base", &base(), &archive(&["gone", "dir/old", "kept"]));
    fill(&graph, "top", &on("base"), &archive(&[".wh.gone", "dir/.wh..wh..opq"]));
    let diff = store.home().join("top/diff");
    for mark in [".wh.gone", "dir/.wh..wh..opq"] {
        assert!(fs::symlink_metadata(diff.join(mark)).unwrap().is_file(), "{mark}");
    }
    let mount = graph.mount(&id("top"), &MountOptions::default()).unwrap();
    let names = |path: &str| fs::read_dir(mount.path().join(path)).unwrap().count();
    assert_eq!((names(""), names("dir")), (2, 0));
    // What fuse-overlayfs itself removes is a device.
    fs::remove_file(mount.path().join("kept")).unwrap();
    assert!(fs::symlink_metadata(diff.join("kept")).unwrap().file_type().is_char_device());
    mount.unmount().unwrap();
    let changes: Vec<_> = graph.changes(&id("top"), Some(&id("base"))).unwrap();
    let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(changes, ["D /dir", "D /gone", "D /kept"]);
}

#[test]
#[ignore = "needs root"]
fn a_home_that_needs_the_program_is_not_opened_without() {
    let store = Store::new();
    drop(open(&store));
    let mark = store.home().join(MARK);
    assert_eq!(fs::read_to_string(&mark).unwrap(), "true");
    assert_eq!(fs::metadata(&mark).unwrap().permissions().mode() & 0o777, 0o600);
    let message = fails(store.try_open(&[]));
    assert!(message.contains("mount_program=/usr/bin/fuse-overlayfs"), "{message}");
    // Of a home that never had it, the mark says so.
    let store = Store::new();
    drop(store.open());
    assert_eq!(fs::read_to_string(store.home().join(MARK)).unwrap(), "false");
    drop(open(&store));
    assert_eq!(fs::read_to_string(store.home().join(MARK)).unwrap(), "true");
}

#[test]
#[ignore = "needs root"]
fn traces_stand_for_a_lost_mark() {
    type Leave = fn(&Path);
    let traces: [(Leave, bool); 4] = [
        (|diff| fs::write(diff.join(".wh.file"), "").unwrap(), true),
        (
            |diff| {
                fs::create_dir(diff.join("dir")).unwrap();
                set_xattr(&diff.join("dir"), c"user.fuseoverlayfs.opaque", b"y");
            },
            true,
        ),
        (|diff| set_xattr(diff, c"user.containers.override_stat", b"0:0:0755"), true),
        // What the kernel's overlay leaves.
        (|diff| mknod(&diff.join("gone"), SFlag::S_IFCHR, Mode::empty(), 0).unwrap(), false),
    ];
    for (leave, used) in traces {
        let store = Store::new();
        let graph = store.open();
        graph.create(&id("layer"), &base()).unwrap();
        leave(&store.home().join("layer/diff"));
        fs::remove_file(store.home().join(MARK)).unwrap();
        if used {
            fails(store.try_open(&[]));
        } else {
            drop(store.open());
        }
        assert_eq!(fs::read_to_string(store.home().join(MARK)).unwrap(), used.to_string());
    }
}

#[test]
#[ignore = "needs root"]
fn owners_are_shown_through_maps() {
    let store = Store::new();
    let graph = open(&store);
    fill(&graph, "layer", &base(), &archive(&["file"]));
    let map = |host_id, size| vec![IdMap { container_id: 0, host_id, size }];
    for (size, expected) in [(65_536, 200_000), (1, 300_000)] {
        let id_maps = IdMaps::new(map(expected, size), map(expected, size)).unwrap();
        let mount = graph.mount(&id("layer"), &MountOptions { id_maps, ..MountOptions::default() }).unwrap();
        let owner = fs::metadata(mount.path().join("file")).unwrap();
        assert_eq!((owner.uid(), owner.gid()), (expected, expected));
        mount.unmount().unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn a_read_only_mount_and_one_that_is_busy() {
    let store = Store::new();
    let graph = open(&store);
    fill(&graph, "layer", &base(), &archive(&["file"]));
    let mount =
        graph.mount(&id("layer"), &MountOptions { read_only: true, ..MountOptions::default() }).unwrap();
    let error = fs::write(mount.path().join("new"), "").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let busy = fs::File::open(mount.path().join("file")).unwrap();
    let path = mount.path().to_owned();
    mount.unmount().unwrap();
    assert!(!path.join("file").exists());
    assert_eq!(std::io::read_to_string(busy).unwrap(), "file", "open files stay usable");
}

#[test]
#[ignore = "needs root"]
fn what_the_program_says_is_in_the_error() {
    let store = Store::new();
    let graph = open(&store);
    fill(&graph, "layer", &base(), &archive(&["file"]));
    // A program that fails is told by its own words, one that does nothing by that.
    for (program, words) in
        [("/bin/ls", "ls: "), ("/bin/true", "mounted nothing"), ("/bin/false", "it said nothing")]
    {
        let graph = store.try_open(&[&format!("mount_program={program}")]).unwrap();
        let error = graph.mount(&id("layer"), &MountOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Command);
        let message = error.report().to_string();
        assert!(message.contains(words) && message.contains(program), "{message}");
    }
}
