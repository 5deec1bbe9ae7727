//! Filling layers from archives, and telling what layers change.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use graphdriver_core::{
    Change, ErrorKind, Graph, IdMaps, LayerApplyOptions, LayerId, MountOptions, Owner, naive,
};
use graphdriver_overlay::OverlayTuning;
use graphdriver_sys::xattr::{self, SetFlags};
use support::{Store, archive, base, id, names, on, write};

const OPAQUE: &CStr = c"trusted.overlay.opaque";

fn apply(graph: &Graph, layer: &str, entries: &[&str]) {
    graph.apply(&id(layer), &mut archive(entries).as_slice(), &LayerApplyOptions::default()).unwrap();
}

fn entry_names(graph: &Graph, layer: &str, parent: Option<&str>) -> Vec<String> {
    let parent = parent.map(id);
    let mut diff = graph.diff(&id(layer), parent.as_ref(), &IdMaps::default()).unwrap();
    let mut bytes = Vec::new();
    diff.read_to_end(&mut bytes).unwrap();
    diff.finish().unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let entries = archive.entries().unwrap();
    entries.map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
}

fn changes(graph: &Graph, layer: &str, parent: Option<&str>) -> Vec<String> {
    let parent = parent.map(id);
    graph.changes(&id(layer), parent.as_ref()).unwrap().iter().map(ToString::to_string).collect()
}

fn seen(graph: &Graph, layer: &str, path: &str) -> Vec<String> {
    let mount = graph.mount(&id(layer), &MountOptions::read_only()).unwrap();
    let seen = names(mount.path().join(path));
    mount.unmount().unwrap();
    seen
}

#[test]
#[ignore = "needs root"]
fn archives_become_layers_in_overlay_form() {
    let store = Store::new();
    let (graph, home) = (store.open(), store.home());
    graph.create(&id("base"), &base()).unwrap();
    let tar = archive(&["dir/", "dir/one", "dir/two", "file"]);
    let applied = graph.apply(&id("base"), &mut tar.as_slice(), &LayerApplyOptions::default()).unwrap();
    assert_eq!((applied.entries, applied.bytes), (4, 18));
    let root = fs::metadata(home.join("base/diff")).unwrap();
    assert_eq!(root.mode() & 0o7777, 0o555, "of the layer, since the archive says nothing");
    graph.create(&id("child"), &on("base")).unwrap();
    apply(&graph, "child", &["dir/", "dir/.wh..wh..opq", "dir/three", ".wh.file"]);
    let diff = home.join("child/diff");
    assert!(fs::symlink_metadata(diff.join("file")).unwrap().file_type().is_char_device());
    let dir = File::open(diff.join("dir")).unwrap();
    assert_eq!(xattr::fget(&dir, OPAQUE).unwrap().as_deref(), Some(b"y".as_slice()));
    assert_eq!(seen(&graph, "child", ""), ["dir"]);
    assert_eq!(seen(&graph, "child", "dir"), ["three"]);
    assert!(names(home.join("tempdirs")).is_empty());
}

#[test]
#[ignore = "needs root"]
fn directories_that_an_archive_only_implies_look_as_below() {
    let store = Store::new();
    let (graph, home) = (store.open(), store.home());
    graph.create(&id("base"), &base()).unwrap();
    apply(&graph, "base", &["dir/"]);
    graph.create(&id("child"), &on("base")).unwrap();
    apply(&graph, "child", &["dir/file"]);
    let staged = ["staged/file", "dir/file"];
    let tar = archive(&staged);
    graph
        .create_filled(&id("staged"), &on("child"), &mut tar.as_slice(), &LayerApplyOptions::default())
        .unwrap();
    for layer in ["child", "staged"] {
        let dir = fs::metadata(home.join(layer).join("diff/dir")).unwrap();
        assert_eq!((dir.mode() & 0o7777, dir.mtime()), (0o750, 1_700_000_000), "{layer}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_failed_archive_leaves_the_layer_empty() {
    let store = Store::new();
    let (graph, home) = (store.open(), store.home());
    graph.create(&id("base"), &base()).unwrap();
    let mut tar = archive(&["one", "two"]);
    tar.truncate(700);
    let options = LayerApplyOptions::default();
    let error = graph.apply(&id("base"), &mut tar.as_slice(), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArchive, "{}", error.report());
    let error = graph.create_filled(&id("staged"), &on("base"), &mut tar.as_slice(), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArchive, "{}", error.report());
    assert_eq!(graph.layers().unwrap(), [id("base")]);
    assert_eq!(names(home.join("base/diff")), [""; 0]);
    assert_eq!(names(home.join("tempdirs")), [""; 0]);
    assert_eq!(names(home.join("l")).len(), 1);
    apply(&graph, "base", &["one"]);
    assert_eq!(names(home.join("base/diff")), ["one"]);
}

#[test]
#[ignore = "needs root"]
fn a_layer_that_is_mounted_or_not_empty_is_filled_through_its_mount() {
    let store = Store::new();
    let graph = store.open();
    graph.create(&id("base"), &base()).unwrap();
    apply(&graph, "base", &["one", "two"]);
    apply(&graph, "base", &[".wh.one", "three"]);
    assert_eq!(names(store.home().join("base/diff")), ["three", "two"]);
    graph.create(&id("child"), &on("base")).unwrap();
    let mount = graph.mount(&id("child"), &MountOptions::default()).unwrap();
    apply(&graph, "child", &[".wh.two", "four"]);
    assert_eq!(names(mount.path()), ["four", "three"]);
    mount.unmount().unwrap();
}

#[test]
#[ignore = "needs root"]
fn staged_layers_appear_when_they_are_committed() {
    let store = Store::new();
    let graph = store.open();
    graph.create(&id("base"), &base()).unwrap();
    apply(&graph, "base", &["one"]);
    let staged_apply = graph.driver().staged_apply().unwrap();
    let stage = || {
        let tar = archive(&["two"]);
        staged_apply.stage(&on("base"), &mut tar.as_slice(), &LayerApplyOptions::default()).unwrap()
    };
    let [first, second, dropped, late] = [stage(), stage(), stage(), stage()];
    assert_eq!(graph.layers().unwrap(), [id("base")]);
    assert_eq!(first.applied().bytes, 3);
    first.commit(&id("child")).unwrap();
    assert_eq!(seen(&graph, "child", ""), ["one", "two"]);
    assert_eq!(second.commit(&id("child")).unwrap_err().kind(), ErrorKind::LayerExists);
    drop(dropped);
    graph.remove(&id("child")).unwrap();
    graph.remove(&id("base")).unwrap();
    assert_eq!(late.commit(&id("late")).unwrap_err().kind(), ErrorKind::ParentUnknown);
    for left in ["tempdirs", "l"] {
        assert_eq!(names(store.home().join(left)), [""; 0]);
    }
}

/// `child` on `base`, with something added, changed, removed and made anew.
fn edited(store: &Store) -> Graph {
    let graph = store.open();
    graph.create(&id("base"), &base()).unwrap();
    apply(&graph, "base", &["changed", "dir/", "dir/below", "gone", "kept", "sub/", "sub/file"]);
    graph.create(&id("child"), &on("base")).unwrap();
    let mount = graph.mount(&id("child"), &MountOptions::default()).unwrap();
    let root = mount.path();
    fs::write(root.join("changed"), "anew").unwrap();
    fs::write(root.join("added"), "added").unwrap();
    fs::write(root.join("sub/added"), "added").unwrap();
    fs::remove_file(root.join("gone")).unwrap();
    fs::remove_file(root.join("dir/below")).unwrap();
    fs::remove_dir(root.join("dir")).unwrap();
    fs::create_dir(root.join("dir")).unwrap();
    fs::write(root.join("dir/other"), "other").unwrap();
    mount.unmount().unwrap();
    graph
}

#[test]
#[ignore = "needs root"]
fn changes_and_diff_against_the_parent() {
    let store = Store::new();
    let graph = edited(&store);
    let native = graph.driver().native_diff().unwrap();
    let (child, parent) = (id("child"), id("base"));
    assert!(native.changes(&child, Some(&parent)).unwrap().is_some());
    let listed = changes(&graph, "child", Some("base"));
    for expected in ["A /added", "C /changed", "D /gone", "A /sub/added", "A /dir/other"] {
        assert!(listed.iter().any(|change| change == expected), "{expected} in {listed:?}");
    }
    assert!(!listed.iter().any(|change| change.contains("kept")), "{listed:?}");
    let entries = entry_names(&graph, "child", Some("base"));
    for expected in
        [".wh.gone", "added", "changed", "dir/", "dir/.wh..wh..opq", "dir/other", "sub/", "sub/added"]
    {
        assert!(entries.iter().any(|entry| entry == expected), "{expected} in {entries:?}");
    }
    assert_eq!(entries.len(), 8, "{entries:?}");
    assert_eq!(graph.diff_size(&child, Some(&parent)).unwrap(), 4 + 5 + 5 + 5);
    assert_eq!(entry_names(&graph, "base", None).len(), 7);
}

#[test]
#[ignore = "needs root"]
fn a_diff_applied_elsewhere_gives_the_same_layer() {
    let store = Store::new();
    let graph = edited(&store);
    let mut diff = graph.diff(&id("child"), Some(&id("base")), &IdMaps::default()).unwrap();
    let created = graph.create_filled(&id("copy"), &on("base"), &mut diff, &LayerApplyOptions::default());
    created.unwrap();
    diff.finish().unwrap();
    assert_eq!(graph.changes(&id("copy"), Some(&id("child"))).unwrap(), []);
    assert_eq!(changes(&graph, "copy", Some("base")), changes(&graph, "child", Some("base")));
}

#[test]
#[ignore = "needs root"]
fn against_any_layer_below_or_nothing_no_mount_is_needed() {
    let store = Store::new();
    let graph = edited(&store);
    graph.create(&id("grandchild"), &on("child")).unwrap();
    write(&graph, "grandchild", "top", "top");
    let above_base = "added changed dir/ dir/.wh..wh..opq dir/other .wh.gone sub/ sub/added top";
    let all = "added changed dir/ dir/other kept sub/ sub/added sub/file top";
    for (base, expected) in [(Some("child"), "top"), (Some("base"), above_base), (None, all)] {
        let (layer, other) = (id("grandchild"), base.map(id));
        let native = graph.driver().native_diff().unwrap();
        assert!(native.diff(&layer, other.as_ref(), &IdMaps::default()).unwrap().is_some());
        let listed = native.changes(&layer, other.as_ref()).unwrap().unwrap();
        let bytes = native.diff_size(&layer, other.as_ref()).unwrap();
        assert_eq!(entry_names(&graph, "grandchild", base).join(" "), expected);
        // Two ways to say that a directory was made anew.
        let others = |changes: Vec<Change>| {
            changes.into_iter().filter(|change| !change.path.starts_with("/dir")).collect::<Vec<_>>()
        };
        let walked = naive::changes(&graph, &layer, other.as_ref()).unwrap();
        assert_eq!(others(listed), others(walked), "against {base:?}");
        assert_eq!(naive::diff_size(&graph, &layer, other.as_ref()).unwrap(), bytes.unwrap());
    }
}

#[test]
#[ignore = "needs root"]
fn layers_that_are_not_one_below_the_other_are_compared_through_mounts() {
    let store = Store::new();
    let graph = edited(&store);
    let native = graph.driver().native_diff().unwrap();
    let (base, child) = (id("base"), id("child"));
    assert!(native.changes(&base, Some(&child)).unwrap().is_none());
    assert!(native.diff(&base, Some(&child), &IdMaps::default()).unwrap().is_none());
    assert!(native.diff_size(&base, Some(&child)).unwrap().is_none());
    let listed = changes(&graph, "base", Some("child"));
    for expected in ["D /added", "A /gone", "C /changed"] {
        assert!(listed.iter().any(|change| change == expected), "{expected} in {listed:?}");
    }
    let missing: Option<&LayerId> = Some(&id("missing"));
    assert_eq!(native.changes(&child, missing).unwrap_err().kind(), ErrorKind::LayerUnknown);
    assert_eq!(native.changes(&id("missing"), None).unwrap_err().kind(), ErrorKind::LayerUnknown);
}

#[test]
#[ignore = "needs root"]
fn naive_and_native_agree() {
    let store = Store::new();
    let graph = edited(&store);
    let mut tuning = OverlayTuning::default();
    tuning.native_diff = false;
    let by_mounts = store.open_with(tuning);
    assert!(!by_mounts.capabilities().native_diff);
    let contents = |graph| {
        let mut entries = entry_names(graph, "child", Some("base"));
        // Two ways to say that a directory was made anew.
        entries.retain(|entry| !entry.ends_with(".wh..wh..opq") && entry != "dir/.wh.below");
        entries
    };
    assert_eq!(contents(&by_mounts), contents(&graph));
}

#[test]
#[ignore = "needs root"]
fn directories_renamed_by_other_programs_mounts() {
    let store = Store::new();
    let graph = store.open();
    graph.create(&id("base"), &base()).unwrap();
    apply(&graph, "base", &["old/", "old/file"]);
    graph.create(&id("child"), &on("base")).unwrap();
    // As a mount with redirect_dir=on leaves it after `mv old new`.
    apply(&graph, "child", &["new/", ".wh.old"]);
    redirect(&store, "child", "new", b"old");
    let native = graph.driver().native_diff().unwrap();
    assert!(native.changes(&id("child"), Some(&id("base"))).unwrap().is_some());
    assert!(native.diff(&id("child"), Some(&id("base")), &IdMaps::default()).unwrap().is_some());
    assert_eq!(changes(&graph, "child", Some("base")), ["A /new", "A /new/file", "D /old"]);
    assert_eq!(graph.diff_size(&id("child"), Some(&id("base"))).unwrap(), 8);
    assert_eq!(entry_names(&graph, "child", Some("base")), ["new/", "new/file", ".wh.old"]);
}

/// Says that the directory `name` of the layer lies at `target` in those below.
fn redirect(store: &Store, layer: &str, name: &str, target: &[u8]) {
    let dir = File::open(store.home().join(layer).join("diff").join(name)).unwrap();
    xattr::fset(&dir, c"trusted.overlay.redirect", target, SetFlags::empty()).unwrap();
}

#[test]
#[ignore = "needs root"]
fn redirects_reach_nothing_outside_the_layers() {
    let store = Store::new();
    let graph = store.open();
    fs::create_dir(store.root().join("secret")).unwrap();
    fs::write(store.root().join("secret/file"), "secret").unwrap();
    graph.create(&id("base"), &base()).unwrap();
    apply(&graph, "base", &["kept"]);
    graph.create(&id("child"), &on("base")).unwrap();
    apply(&graph, "child", &["new/"]);
    let base = id("base");
    for target in [&b"../../secret"[..], b"/../../../secret", b"..", b"/"] {
        redirect(&store, "child", "new", target);
        let error = graph.changes(&id("child"), Some(&base)).unwrap_err();
        let report = error.report().to_string();
        assert!(report.contains("new") && report.contains("redirect"), "{report}");
        let mut tar = graph.diff(&id("child"), Some(&base), &IdMaps::default()).unwrap();
        assert!(tar.read_to_end(&mut Vec::new()).is_err(), "{target:?}");
    }
    // An absolute one begins at the roots of the layers.
    redirect(&store, "child", "new", store.root().join("secret").as_os_str().as_encoded_bytes());
    assert_eq!(entry_names(&graph, "child", Some("base")), ["new/"]);
}

#[test]
#[ignore = "needs root"]
fn files_whose_metadata_alone_was_changed_by_other_programs_mounts() {
    let store = Store::new();
    let (graph, home) = (store.open(), store.home());
    graph.create(&id("base"), &base()).unwrap();
    apply(&graph, "base", &["file"]);
    graph.create(&id("child"), &on("base")).unwrap();
    // As a mount with metacopy=on leaves it after a `chmod`: a hole of the same size.
    apply(&graph, "child", &["file"]);
    let file = File::create(home.join("child/diff/file")).unwrap();
    file.set_len(4).unwrap();
    xattr::fset(&file, c"trusted.overlay.metacopy", b"", SetFlags::empty()).unwrap();
    let (child, base) = (id("child"), id("base"));
    let native = graph.driver().native_diff().unwrap();
    let mut tar = native.diff(&child, Some(&base), &IdMaps::default()).unwrap().unwrap();
    let mut bytes = Vec::new();
    tar.read_to_end(&mut bytes).unwrap();
    tar.finish().unwrap();
    let mut archive = tar::Archive::new(&bytes[..]);
    let entry = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(std::io::read_to_string(entry).unwrap(), "file");
    assert_eq!(native.diff_size(&child, Some(&base)).unwrap(), Some(4));
    let mount = graph.mount(&child, &MountOptions::read_only()).unwrap();
    assert_eq!(fs::read_to_string(mount.path().join("file")).unwrap(), "file");
    mount.unmount().unwrap();
}

#[test]
#[ignore = "needs root"]
fn usage_is_what_the_layer_itself_holds() {
    let store = Store::new();
    let graph = edited(&store);
    let usage = graph.usage(&id("child")).unwrap();
    // The root, two directories, four files and a whiteout.
    assert_eq!((usage.bytes, usage.inodes), (19, 8));
    assert_eq!(graph.usage(&id("missing")).unwrap_err().kind(), ErrorKind::LayerUnknown);
}

#[test]
#[ignore = "needs root"]
fn owners_are_mapped() {
    let store = Store::new();
    let graph = store.open();
    let map = |host_id| vec![graphdriver_core::IdMap { container_id: 0, host_id, size: 10 }];
    let id_maps = IdMaps::new(map(5000), map(6000)).unwrap();
    graph.create(&id("base"), &base()).unwrap();
    let options = LayerApplyOptions { id_maps: id_maps.clone(), ..LayerApplyOptions::default() };
    graph.apply(&id("base"), &mut archive(&["file"]).as_slice(), &options).unwrap();
    let file = fs::metadata(store.home().join("base/diff/file")).unwrap();
    assert_eq!(Owner { uid: file.uid(), gid: file.gid() }, Owner { uid: 5000, gid: 6000 });
    let options = LayerApplyOptions { skip_record: true, ..options };
    graph.create(&id("other"), &base()).unwrap();
    graph.apply(&id("other"), &mut archive(&["file"]).as_slice(), &options).unwrap();
    let mut diff = graph.diff(&id("other"), None, &id_maps).unwrap();
    let mut bytes = Vec::new();
    diff.read_to_end(&mut bytes).unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let entry = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(entry.path().unwrap(), Path::new("file"));
    assert_eq!(entry.header().uid().unwrap(), 0);
}
