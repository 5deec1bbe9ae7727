//! What only datasets can do wrong.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use graphdriver_core::{CreateOptions, ErrorKind, LayerId, LayerKind, MountOptions, Quota};
use nix::mount::{MntFlags, MsFlags, umount2};

use crate::process::{Onlooker, fill_half_way};
use crate::store::{Store, fails, id};
use crate::tarball::{Entry, Tarball};
use crate::zfs::{pool, write_out, zfs};

/// Everything below the parent dataset: layers, and snapshots that nobody has asked to be removed.
fn inventory(store: &Store) -> Vec<String> {
    let parent = parent(store);
    let listed = zfs(&["list", "-H", "-r", "-t", "filesystem,snapshot", "-o", "name,defer_destroy", &parent]);
    let below = listed.lines().filter_map(|line| line.strip_suffix("\toff").or(line.strip_suffix("\t-")));
    let mut below: Vec<String> =
        below.filter_map(|name| name.strip_prefix(&parent)?.strip_prefix('/')).map(str::to_owned).collect();
    below.sort();
    below
}

fn parent(store: &Store) -> String {
    let status = store.graph().status().unwrap();
    status.into_iter().find(|(name, _)| name == "Parent Dataset").unwrap().1
}

/// Processes that were killed, and removals that failed, leave nothing in the pool once the home was opened again.
pub fn leaves_nothing(store: &Store) {
    let base = store.fill("base", None, &Tarball::of([Entry::file("file", "base")]));
    let archive = Tarball::of((0..20).map(|index| Entry::file(format!("file-{index}"), vec![7_u8; 50_000])));
    for parent in [None, Some(&base)] {
        fill_half_way(store.configuration(), store.dir(), &id("half"), parent, &archive[..archive.len() / 2]);
        assert!(inventory(store).len() > 1, "what it left is still there");
        drop(store.reopen());
        assert_eq!(inventory(store), ["base"]);
    }
    let child = store.create("child", Some(&base));
    assert_eq!(inventory(store), ["base", "child"]);
    fails(store.graph().create(&child, &CreateOptions::on(&base)), ErrorKind::LayerExists);
    fails(store.try_fill(&id("bad"), Some(&base), &mut &archive[..1000]), ErrorKind::InvalidArchive);
    let odd = store.graph().create(&id("a@b"), &CreateOptions::on(&base));
    assert!(fails(odd, ErrorKind::InvalidArgument).contains("does not take in names"));
    assert_eq!(inventory(store), ["base", "child"]);
    store.remove(&child);
    store.remove(&base);
    assert_eq!(inventory(store), [""; 0]);
    // The snapshot of a parent goes with the clone.
    let listed = zfs(&["list", "-H", "-r", "-t", "snapshot", "-o", "name", &parent(store)]);
    assert_eq!(listed, "");
}

/// A layer has one mount: who comes to write finds it writable although somebody mounted it to read.
pub fn reader_and_writer(store: &Store) {
    let layer = store.create("layer", None);
    let reader = store.graph().mount(&layer, &MountOptions::read_only()).unwrap();
    let refused = fs::write(reader.path().join("file"), "").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let writer = store.reopen().mount(&layer, &MountOptions::default()).unwrap();
    assert_eq!(reader.path(), writer.path());
    fs::write(writer.path().join("file"), "written").unwrap();
    writer.unmount().unwrap();
    assert_eq!(fs::read(reader.path().join("file")).unwrap(), b"written");
    reader.unmount().unwrap();
    // The next reader has it read-only again.
    let reader = store.graph().mount(&layer, &MountOptions::read_only()).unwrap();
    fs::write(reader.path().join("file"), "").unwrap_err();
    reader.unmount().unwrap();
    store.remove(&layer);
}

/// While somebody else keeps a mount or a file of a removed layer, its dataset stays, out of sight, and it is told who that is; it goes with the next opening after that.
pub fn busy(store: &Store) {
    let base = store.create("base", None);
    let layer = store.create("layer", Some(&base));
    let mount = store.graph().mount(&layer, &MountOptions::default()).unwrap();
    fs::write(mount.path().join("file"), "written").unwrap();
    // The mount point itself goes, and what is mounted on it in other namespaces with it.
    let elsewhere = store.dir().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    nix::mount::mount(Some(mount.path()), &elsewhere, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    let other = Onlooker::start();
    umount2(&elsewhere, MntFlags::MNT_DETACH).unwrap();
    mount.unmount().unwrap();
    let message = stays_busy(store, &layer);
    assert!(message.contains(&format!("process {} ", other.id())), "{message}");
    assert!(message.contains(&format!("has it mounted on {elsewhere:?}")), "{message}");
    other.finish();
    goes_at_last(store, &base);
    fs::remove_dir(&elsewhere).unwrap();

    let layer = store.create("layer", Some(&base));
    let mount = store.graph().mount(&layer, &MountOptions::default()).unwrap();
    let file = File::create(mount.path().join("file")).unwrap();
    mount.unmount().unwrap();
    let message = stays_busy(store, &layer);
    let here = format!("process {} ", std::process::id());
    assert!(message.contains(&here) && message.contains("file\" of it open"), "{message}");
    drop(file);
    goes_at_last(store, &base);
}

fn stays_busy(store: &Store, layer: &LayerId) -> String {
    let message = fails(store.graph().remove(layer), ErrorKind::Command);
    assert!(message.contains("dataset is busy"), "{message}");
    assert!(!store.graph().exists(layer).unwrap());
    assert_eq!(store.graph().layers().unwrap().len(), 1);
    drop(store.reopen());
    assert_eq!(inventory(store).len(), 2, "it is kept still");
    assert_eq!(store.graph().driver().check(false).unwrap().len(), 1);
    message
}

fn goes_at_last(store: &Store, base: &LayerId) {
    drop(store.reopen());
    assert_eq!(inventory(store), [base.as_str()]);
    assert_eq!(store.graph().driver().check(false).unwrap(), []);
}

/// Datasets of others below the parent are no layers, and are left alone.
pub fn foreign_datasets(store: &Store) {
    let name = format!("{}/foreign", parent(store));
    zfs(&["create", "-o", "mountpoint=none", &name]);
    let foreign = id("foreign");
    assert!(!store.graph().exists(&foreign).unwrap());
    assert_eq!(store.graph().layers().unwrap(), []);
    fails(store.graph().mount(&foreign, &MountOptions::default()), ErrorKind::LayerUnknown);
    fails(store.graph().remove(&foreign), ErrorKind::LayerUnknown);
    fails(store.graph().create(&foreign, &CreateOptions::default()), ErrorKind::LayerExists);
    assert_eq!(inventory(store), ["foreign"]);
    // One as the Go drivers make it is a layer.
    zfs(&["create", "-o", "mountpoint=legacy", &format!("{}/peer", parent(store))]);
    let peer = id("peer");
    store.edit(&peer, |root| fs::write(root.join("file"), "peer").unwrap());
    zfs(&["snapshot", &format!("{}/peer@123456789", parent(store))]);
    let snapshot = format!("{}/peer@123456789", parent(store));
    zfs(&["clone", "-o", "mountpoint=legacy", &snapshot, &format!("{}/child", parent(store))]);
    zfs(&["destroy", "-d", &snapshot]);
    let child = id("child");
    assert_eq!(store.graph().layers().unwrap(), [child.clone(), peer.clone()]);
    assert_eq!(store.graph().parent(&child).unwrap(), Some(peer.clone()));
    store.edit(&child, |root| fs::write(root.join("new"), "child").unwrap());
    assert_eq!(store.changes(&child, Some(&peer)), ["A /new"]);
    fails(store.graph().remove(&peer), ErrorKind::LayerInUse);
    store.remove(&child);
    store.remove(&peer);
}

/// What a layer takes is told without a mount, and its limit is the property that the Go drivers set.
pub fn usage_and_quota(store: &Store) {
    const MIB: u64 = 1 << 20;
    let base = store.fill("base", None, &Tarball::of([Entry::file("large", vec![1; 4 << 20])]));
    let child = store.create("child", Some(&base));
    let before = store.graph().usage(&child).unwrap();
    assert!(before.bytes < MIB, "shared with the base: {before:?}");
    store.edit(&child, |root| {
        fs::write(root.join("new"), vec![2; 3 << 20]).unwrap();
        fs::create_dir(root.join("dir")).unwrap();
        let held = store.graph().usage(&child).unwrap();
        assert!((3 * MIB..4 * MIB).contains(&(held.bytes - before.bytes)), "while it is mounted: {held:?}");
    });
    let after = store.graph().usage(&child).unwrap();
    assert!((3 * MIB..4 * MIB).contains(&(after.bytes - before.bytes)), "{before:?} {after:?}");
    assert_eq!(after.inodes - before.inodes, 2);
    assert!(!Path::new(&store.graph().metadata(&child).unwrap()["Mountpoint"]).exists());
    let limits = Quota { bytes: Some(5 * MIB), inodes: None };
    let options = CreateOptions { quota: limits, kind: LayerKind::ReadWrite, ..CreateOptions::on(&base) };
    store.graph().create(&id("limited"), &options).unwrap();
    let dataset = &store.graph().metadata(&id("limited")).unwrap()["Dataset"];
    assert_eq!(zfs(&["get", "-H", "-p", "-o", "value", "quota", dataset]).trim_end(), "5242880");
    let inodes = Quota { bytes: None, inodes: Some(5) };
    let options = CreateOptions { quota: inodes, ..options };
    fails(store.graph().create(&id("inodes"), &options), ErrorKind::NotSupported);
}

/// What the driver answers, in process or by the programs, is what the programs say at that moment, whoever made or removed a dataset.
pub fn same_answers(store: &Store) {
    let in_process = store.graph().features().iter().any(|it| it.name() == "libzfs" && it.is_on());
    assert_eq!(in_process, store.configuration().by_libzfs);
    let parent = parent(store);
    let dataset = |name: &str| format!("{parent}/{name}");
    let base = store.fill("base", None, &Tarball::of([Entry::file("file", vec![1; 1 << 20])]));
    store.create("child", Some(&base));
    zfs(&["create", "-o", "mountpoint=legacy", "-o", "quota=20971520", &dataset("peer")]);
    zfs(&["create", "-o", "mountpoint=none", &dataset("foreign")]);
    zfs(&["create", "-o", "mountpoint=legacy", &dataset("foreign/inner")]);
    zfs(&["create", "-s", "-V", "1048576", &dataset("volume")]);
    zfs(&["snapshot", &dataset("peer@kept")]);
    let all = ["base", "child", "peer", "foreign", "inner", "volume", "kept", "missing"];
    let is_layer = |name: &str| ["base", "child", "peer"].contains(&name);
    for name in all {
        assert_eq!(store.graph().exists(&id(name)).unwrap(), is_layer(name), "{name}");
    }
    assert_eq!(store.graph().layers().unwrap(), ["base", "child", "peer"].map(id));
    for name in ["base", "child", "peer"] {
        let origin = zfs(&["list", "-H", "-o", "origin", &dataset(name)]);
        let origin = origin.trim_end().split_once('@').and_then(|(origin, _)| origin.rsplit_once('/'));
        assert_eq!(store.graph().parent(&id(name)).unwrap(), origin.map(|(_, name)| id(name)), "{name}");
        write_out();
        let used = zfs(&["list", "-H", "-p", "-o", "used", &dataset(name)]);
        assert_eq!(store.graph().usage(&id(name)).unwrap().bytes.to_string(), used.trim_end(), "{name}");
    }
    same_status(store, &parent);
    #[cfg(feature = "libzfs")]
    if in_process {
        same_properties(&[&parent, &dataset("child"), &dataset("peer"), &dataset("foreign")]);
    }
    // By others, while the driver has the home open.
    zfs(&["destroy", &dataset("child")]);
    zfs(&["rename", &dataset("peer"), &dataset("renamed")]);
    zfs(&["set", "mountpoint=none", &dataset("base")]);
    assert_eq!(store.graph().layers().unwrap(), [id("renamed")]);
    for name in ["base", "child", "peer"] {
        assert!(!store.graph().exists(&id(name)).unwrap(), "{name}");
    }
    // By several threads at a time.
    std::thread::scope(|scope| {
        for name in ["renamed", "child", "renamed", "child"] {
            let expected = name == "renamed";
            scope.spawn(move || {
                for _ in 0..20 {
                    assert_eq!(store.graph().exists(&id(name)).unwrap(), expected, "{name}");
                }
            });
        }
    });
    zfs(&["set", "mountpoint=legacy", &dataset("base")]);
    store.remove(&base);
}

fn same_status(store: &Store, parent: &str) {
    write_out();
    let listed = zfs(&["list", "-H", "-p", "-o", "used,available,compression", parent]);
    let mut expected: Vec<&str> = listed.trim_end().split('\t').collect();
    let health = Command::new("zpool").args(["list", "-H", "-o", "health", &pool()]).output().unwrap().stdout;
    let health = String::from_utf8(health).unwrap();
    expected.extend([health.trim_end(), "no"]);
    let status = store.graph().status().unwrap();
    let names = ["Space Used By Parent", "Space Available", "Compression", "Zpool Health", "Parent Quota"];
    let told = names.map(|name| &*status.iter().find(|(it, _)| it == name).unwrap().1);
    assert_eq!(told.as_slice(), expected);
    assert_eq!(told[3], "ONLINE");
}

/// Every property that the program knows, and what the library refuses.
#[cfg(feature = "libzfs")]
fn same_properties(datasets: &[&str]) {
    use std::ffi::CString;

    let session = graphdriver_sys::libzfs::Libzfs::load().unwrap().session().unwrap();
    let text = |text: &str| CString::new(text).unwrap();
    for dataset in datasets {
        let known = zfs(&["get", "-H", "-o", "property", "all", dataset]);
        let known: Vec<&str> = known.lines().collect();
        assert!(known.len() > 50, "{known:?}");
        let listed = zfs(&["list", "-H", "-p", "-o", &known.join(","), dataset]);
        for (property, expected) in known.iter().zip(listed.trim_end_matches('\n').split('\t')) {
            let told = session.values(&text(dataset), [&text(property)]).unwrap();
            assert_eq!(told, Some([expected.to_owned()]), "{property} of {dataset}");
        }
    }
    let listed = zfs(&["list", "-H", "-r", "-d", "1", "-t", "filesystem", "-o", "name,origin", datasets[0]]);
    let mut expected: Vec<[String; 2]> = Vec::new();
    for line in listed.lines().skip(1) {
        expected.push(line.split_once('\t').map(<[_; 2]>::from).unwrap().map(str::to_owned));
    }
    let mut told = session.children(&text(datasets[0]), [c"name", c"origin"]).unwrap();
    told.sort();
    assert_eq!(told, expected);
    let missing = text(&format!("{}/missing", datasets[0]));
    assert_eq!(session.values(&missing, [c"used"]).unwrap(), None);
    session.values(&text(&format!("{}/volume", datasets[0])), [c"used"]).unwrap_err();
    session.values(&text(datasets[0]), [c"no_such_property"]).unwrap_err();
    session.values(c"a@b", [c"used"]).unwrap_err();
    session.children(&missing, [c"used"]).unwrap_err();
    session.pool_health(c"no-such-pool").unwrap_err();
}
