//! Mounts that others end, or keep, behind our back.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use graphdriver_core::{ErrorKind, MountOptions};
use nix::mount::{MntFlags, umount2};

use crate::process::Onlooker;
use crate::store::{Store, fails};
use crate::tree::Times;

/// `umount -l`.
fn unmount(path: &Path) {
    umount2(path, MntFlags::MNT_DETACH).unwrap();
}

pub fn by_hand(store: &Store) {
    let base = store.create("base", None);
    let layer = store.create("layer", Some(&base));
    let graph = store.graph();
    let first = graph.mount(&layer, &MountOptions::default()).unwrap();
    fs::write(first.path().join("one"), "1").unwrap();
    unmount(first.path());
    assert!(!first.path().join("one").exists());
    // The next user gets a mount, and the first one's place is the same.
    let second = graph.mount(&layer, &MountOptions::default()).unwrap();
    fs::write(second.path().join("two"), "2").unwrap();
    assert_eq!(fs::read(first.path().join("one")).unwrap(), b"1");
    second.unmount().unwrap();
    fs::write(first.path().join("three"), "3").unwrap();
    first.unmount().unwrap();
    assert_eq!(store.tree(&layer, Times::Seconds).paths(), ["one", "three", "two"]);
    // Nobody came before the reference is given back.
    let mount = graph.mount(&layer, &MountOptions::default()).unwrap();
    unmount(mount.path());
    fails(graph.remove(&layer), ErrorKind::LayerInUse);
    graph.cleanup().unwrap();
    mount.unmount().unwrap();
    // Nor will anybody ask for a reference back that has outlived its process.
    let path = graph.mount(&layer, &MountOptions::default()).unwrap().keep().unwrap();
    unmount(&path);
    fails(store.reopen().unmount(&layer), ErrorKind::InvalidArgument);
    assert_eq!(store.tree(&layer, Times::Seconds).paths(), ["one", "three", "two"]);
    let path = graph.mount(&layer, &MountOptions::default()).unwrap().keep().unwrap();
    unmount(&path);
    store.remove(&layer);
    assert_eq!(graph.layers().unwrap(), [base]);
}

/// The mount is out of sight, and lives until its last file is closed.
pub fn while_open(store: &Store) {
    let base = store.create("base", None);
    let layer = store.create("layer", Some(&base));
    let mount = store.graph().mount(&layer, &MountOptions::default()).unwrap();
    let mut file = File::create(mount.path().join("file")).unwrap();
    file.write_all(b"before, ").unwrap();
    unmount(mount.path());
    file.write_all(b"after").unwrap();
    drop(file);
    mount.unmount().unwrap();
    assert_eq!(store.tree(&layer, Times::Seconds).contents("file"), "before, after");
    store.remove(&layer);
}

/// A mount namespace that was copied while the layer was mounted keeps the mount.
pub fn elsewhere(store: &Store) {
    let base = store.create("base", None);
    let [kept, removed] = ["kept", "removed"].map(|name| store.create(name, Some(&base)));
    let mounts = [&kept, &removed].map(|layer| store.graph().mount(layer, &MountOptions::default()).unwrap());
    for mount in &mounts {
        fs::write(mount.path().join("file"), "written").unwrap();
    }
    let mut other = Onlooker::start();
    other.unmount(mounts[0].path());
    fs::write(mounts[0].path().join("file"), "still mounted here").unwrap();
    for mount in mounts {
        mount.unmount().unwrap();
    }
    store.remove(&removed);
    assert!(!store.home().join("removed").exists());
    other.finish();
    assert_eq!(store.tree(&kept, Times::Seconds).contents("file"), "still mounted here");
    assert_eq!(store.graph().layers().unwrap(), [base, kept]);
}
