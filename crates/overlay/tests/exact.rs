//! The archive that a layer was filled from, byte for byte, as long as the layer is what it made.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use graphdriver_core::{Graph, IdMap, IdMaps, LayerApplyOptions, LayerId, MountOptions};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use support::{Store, archive, base, id, names, on};

fn try_diff(
    graph: &Graph,
    layer: &str,
    parent: Option<&LayerId>,
    id_maps: &IdMaps,
) -> std::io::Result<Vec<u8>> {
    let mut diff = graph.diff(&id(layer), parent, id_maps).unwrap();
    let mut bytes = Vec::new();
    diff.read_to_end(&mut bytes)?;
    diff.finish().unwrap();
    Ok(bytes)
}

fn diff(graph: &Graph, layer: &str, parent: Option<&LayerId>) -> Vec<u8> {
    try_diff(graph, layer, parent, &IdMaps::default()).unwrap()
}

/// One that we would write in another order and without the zeros at its end.
fn odd_archive() -> Vec<u8> {
    let mut bytes = archive(&["z", "dir/", "dir/b", "dir/a", "implied/c"]);
    bytes.resize(bytes.len() + 5000, 0);
    bytes
}

/// A layer `base`, and `child` on it, made of the odd archive in both ways.
fn filled(store: &Store) -> (Graph, Vec<u8>) {
    let (graph, bytes) = (store.open(), odd_archive());
    let options = LayerApplyOptions::default();
    graph.create_filled(&id("base"), &base(), &mut bytes.as_slice(), &options).unwrap();
    graph.create(&id("child"), &on("base")).unwrap();
    graph.apply(&id("child"), &mut bytes.as_slice(), &options).unwrap();
    (graph, bytes)
}

fn record(store: &Store, layer: &str) -> PathBuf {
    store.home().join(layer).join("tar-split.gz")
}

#[test]
#[ignore = "needs root"]
fn a_layer_gives_back_its_archive() {
    let store = Store::new();
    let (graph, bytes) = filled(&store);
    assert!(graph.capabilities().exact_diffs);
    assert!(diff(&graph, "base", None) == bytes);
    assert!(diff(&graph, "child", Some(&id("base"))) == bytes);
    assert_eq!(names(store.home().join("tempdirs")), [""; 0]);
    let mode = fs::metadata(record(&store, "base")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    // Mounted and looked at, but not written to; and by whoever opens the home next.
    let mount = graph.mount(&id("child"), &MountOptions::default()).unwrap();
    assert_eq!(fs::read_to_string(mount.path().join("dir/a")).unwrap(), "dir/a");
    assert!(diff(&graph, "child", Some(&id("base"))) == bytes);
    mount.unmount().unwrap();
    assert!(diff(&store.open(), "child", Some(&id("base"))) == bytes);
    // Against something else it is another archive.
    assert!(diff(&graph, "child", None) != bytes);
}

#[test]
#[ignore = "needs root"]
fn a_changed_layer_gives_what_it_is() {
    let edits: [fn(&std::path::Path); 5] = [
        |root| fs::write(root.join("dir/a"), "other").unwrap(),
        |root| {
            let mtime = root.join("dir/a").metadata().unwrap().modified().unwrap();
            fs::write(root.join("dir/a"), "rid/a").unwrap();
            File::options().write(true).open(root.join("dir/a")).unwrap().set_modified(mtime).unwrap();
        },
        |root| fs::set_permissions(root.join("z"), Permissions::from_mode(0o600)).unwrap(),
        |root| fs::write(root.join("dir/new"), "").unwrap(),
        |root| fs::remove_file(root.join("dir/b")).unwrap(),
    ];
    for (index, edit) in edits.iter().enumerate() {
        let store = Store::new();
        let (graph, bytes) = filled(&store);
        let mount = graph.mount(&id("child"), &MountOptions::default()).unwrap();
        edit(mount.path());
        mount.unmount().unwrap();
        let changed = diff(&graph, "child", Some(&id("base")));
        assert!(changed != bytes, "edit {index}");
        assert!(tar::Archive::new(changed.as_slice()).entries().unwrap().count() > 1, "edit {index}");
        assert!(diff(&graph, "base", None) == bytes, "edit {index}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_copied_home_gives_back_the_same() {
    let (store, copy) = (Store::new(), Store::new());
    let (graph, bytes) = filled(&store);
    drop(graph);
    fs::remove_dir(copy.home()).ok();
    let status = Command::new("cp").arg("-a").args([store.home(), copy.home()]).status().unwrap();
    assert!(status.success());
    let graph = copy.open();
    assert!(diff(&graph, "base", None) == bytes);
    assert!(diff(&graph, "child", Some(&id("base"))) == bytes);
}

#[test]
#[ignore = "needs root"]
fn a_copied_home_does_not_take_back_changes() {
    let (store, copy) = (Store::new(), Store::new());
    let (graph, bytes) = filled(&store);
    fs::set_permissions(store.home().join("base/diff/z"), Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(store.home().join("child/diff/dir/b")).unwrap();
    drop(graph);
    fs::remove_dir(copy.home()).ok();
    // The record comes after the layer, as it would be if it were newer.
    for layer in ["base", "child"] {
        fs::create_dir_all(copy.home().join(layer)).unwrap();
        for name in ["link", "lower", "work", "merged", "empty", "diff", "tar-split.gz"] {
            let from = store.home().join(layer).join(name);
            if from.exists() {
                let status = Command::new("cp").arg("-a").args([from, copy.home().join(layer)]).status();
                assert!(status.unwrap().success());
            }
        }
    }
    Command::new("cp").arg("-a").args([store.home().join("l"), copy.home()]).status().unwrap();
    for store in [&store, &copy] {
        let graph = store.open();
        let base_diff = diff(&graph, "base", None);
        assert!(base_diff != bytes);
        let mut entries = tar::Archive::new(base_diff.as_slice());
        let modes: Vec<_> =
            entries.entries().unwrap().map(|entry| entry.unwrap().header().mode().unwrap()).collect();
        assert!(modes.contains(&0o600), "{modes:?}");
        assert!(diff(&graph, "child", Some(&id("base"))) != bytes);
    }
}

/// What relabelling, or a change of owners that is taken back, does to a home: every inode has changed, the record last.
#[test]
#[ignore = "needs root"]
fn a_home_that_is_gone_over_does_not_take_back_changes() {
    let store = Store::new();
    let (graph, bytes) = filled(&store);
    fs::set_permissions(store.home().join("child/diff/z"), Permissions::from_mode(0o600)).unwrap();
    for name in ["diff", "tar-split.gz"] {
        let path = store.home().join("child").join(name);
        assert!(Command::new("chown").args(["-hR", "0:0"]).arg(path).status().unwrap().success());
    }
    assert!(diff(&graph, "child", Some(&id("base"))) != bytes);
    assert!(diff(&graph, "base", None) == bytes);
}

#[test]
#[ignore = "needs root"]
fn other_id_maps_make_another_archive() {
    let store = Store::new();
    let graph = store.open();
    let range = |host_id| vec![IdMap { container_id: 0, host_id, size: 10 }];
    let id_maps = IdMaps::new(range(5000), range(5000)).unwrap();
    let options = LayerApplyOptions { id_maps: id_maps.clone(), ..LayerApplyOptions::default() };
    let bytes = archive(&["file"]);
    graph.create_filled(&id("base"), &base(), &mut bytes.as_slice(), &options).unwrap();
    assert!(try_diff(&graph, "base", None, &id_maps).unwrap() == bytes);
    let stored = try_diff(&graph, "base", None, &IdMaps::default()).unwrap();
    let mut entries = tar::Archive::new(stored.as_slice());
    let entry = entries.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(entry.header().uid().unwrap(), 5000);
}

#[test]
#[ignore = "needs root"]
fn records_can_be_left_out_and_may_be_damaged() {
    let store = Store::new();
    let (graph, bytes) = filled(&store);
    let options = LayerApplyOptions { skip_record: true, digest: true, ..LayerApplyOptions::default() };
    let applied = graph.create_filled(&id("without"), &base(), &mut bytes.as_slice(), &options).unwrap();
    assert_eq!(applied.archive.unwrap().bytes, bytes.len() as u64);
    assert!(!record(&store, "without").exists());
    let native = diff(&graph, "without", None);
    assert!(native != bytes);
    let whole = fs::read(record(&store, "base")).unwrap();
    for damaged in [&b""[..], b"no gzip", &whole[..whole.len() / 2]] {
        fs::write(record(&store, "base"), damaged).unwrap();
        // A record that ends too early has its note; what is noticed in time falls back, what is not is an error.
        match try_diff(&graph, "base", None, &IdMaps::default()) {
            // Directories that the archive only implies have the time at which they were made.
            Ok(found) => assert!(found != bytes && found.len() == native.len()),
            Err(error) => {
                let error = error.downcast::<graphdriver_core::Error>().unwrap();
                assert_eq!(error.failed_layer(), Some(&id("base")));
                assert_eq!(error.kind(), graphdriver_core::ErrorKind::InvalidArchive);
                assert!(error.report().to_string().contains("tar-split"), "{}", error.report());
            }
        }
    }
}

#[test]
#[ignore = "needs root"]
fn contents_that_cannot_be_had_again_leave_no_record() {
    let store = Store::new();
    let graph = store.open();
    let bytes = archive(&["twice", "once", "twice"]);
    graph.create_filled(&id("base"), &base(), &mut bytes.as_slice(), &LayerApplyOptions::default()).unwrap();
    assert!(!record(&store, "base").exists());
    assert!(diff(&graph, "base", None) != bytes);
}

#[test]
#[ignore = "needs root"]
fn a_store_of_containers_storage_has_its_records_in_their_place() {
    let store = Store::new();
    let go = store.root().join("overlay-layers");
    fs::create_dir(&go).unwrap();
    fs::write(go.join("layers.json"), "[]").unwrap();
    let (graph, bytes) = filled(&store);
    assert!(!record(&store, "base").exists() && !record(&store, "child").exists());
    assert_eq!(names(&go), ["base.tar-split.gz", "child.tar-split.gz", "layers.json"]);
    assert!(diff(&graph, "base", None) == bytes);
    assert!(diff(&graph, "child", Some(&id("base"))) == bytes);
    graph.remove(&id("child")).unwrap();
    assert_eq!(names(&go), ["base.tar-split.gz", "layers.json"]);
    // A record that was left behind is not taken for the new layer's.
    fs::copy(go.join("base.tar-split.gz"), go.join("child.tar-split.gz")).unwrap();
    graph.create(&id("child"), &on("base")).unwrap();
    assert!(diff(&graph, "child", Some(&id("base"))) != bytes);
}

/// As containers/storage leaves it: the home is mounted on itself, its list of layers is outside.
#[test]
#[ignore = "needs root"]
fn a_home_that_is_a_mount_has_its_records_in_their_place() {
    let store = Store::new();
    let go = store.root().join("overlay-layers");
    fs::create_dir(&go).unwrap();
    fs::write(go.join("layers.json"), "[]").unwrap();
    fs::write(go.join("base.tar-split.gz.new"), "of a killed process").unwrap();
    fs::create_dir_all(store.home()).unwrap();
    mount(Some(&store.home()), &store.home(), None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    let (graph, bytes) = filled(&store);
    assert_eq!(names(&go), ["base.tar-split.gz", "child.tar-split.gz", "layers.json"]);
    let results = [diff(&graph, "base", None), diff(&graph, "child", Some(&id("base")))];
    drop(graph);
    umount2(&store.home(), MntFlags::MNT_DETACH).unwrap();
    assert!(results.iter().all(|result| *result == bytes));
}

/// `index=on` marks the directory with every writable mount.
#[test]
#[ignore = "needs root"]
fn a_mark_of_the_kernel_is_no_change() {
    let store = Store::new();
    let bytes = odd_archive();
    let graph = store.try_open(&["overlay.mountopt=index=on"]).unwrap();
    graph.create_filled(&id("base"), &base(), &mut bytes.as_slice(), &LayerApplyOptions::default()).unwrap();
    graph.mount(&id("base"), &MountOptions::default()).unwrap().unmount().unwrap();
    assert!(diff(&graph, "base", None) == bytes);
}
