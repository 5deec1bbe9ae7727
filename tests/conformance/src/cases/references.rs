//! Mounting, unmounting, and who holds what.

use std::fs;

use graphdriver_core::{ErrorKind, MountOptions};

use crate::configuration::Driver;
use crate::process::Holder;
use crate::store::{Store, fails, id};

pub fn exists_get_put(store: &Store) {
    let graph = store.graph();
    assert!(!graph.exists(&id("layer")).unwrap());
    fails(graph.mount(&id("layer"), &MountOptions::default()), ErrorKind::LayerUnknown);
    let base = store.create("base", None);
    let layer = store.create("layer", Some(&base));
    let driver = graph.driver();
    let first = driver.get(&layer, &MountOptions::default()).unwrap();
    let second = driver.get(&layer, &MountOptions::default()).unwrap();
    assert_eq!(first, second);
    fs::write(first.join("file"), "kept").unwrap();
    driver.put(&layer).unwrap();
    assert_eq!(fs::read(second.join("file")).unwrap(), b"kept", "one reference is left");
    driver.put(&layer).unwrap();
    fails(driver.put(&layer), ErrorKind::InvalidArgument);
    if store.configuration().driver == Driver::Overlay {
        assert!(!first.join("file").exists(), "the last reference unmounts");
    }
    store.edit(&layer, |root| assert_eq!(fs::read(root.join("file")).unwrap(), b"kept"));
}

pub fn put_without_get(store: &Store) {
    let base = store.create("base", None);
    fails(store.graph().unmount(&base), ErrorKind::InvalidArgument);
    fails(store.graph().unmount(&id("missing")), ErrorKind::LayerUnknown);
    // The failures have left nothing that stands in the way.
    store.edit(&base, |root| fs::write(root.join("file"), "").unwrap());
    store.remove(&base);
}

/// A reference that outlives its guard is given back by another opening of the home.
pub fn keep_and_unmount(store: &Store) {
    let base = store.create("base", None);
    let layer = store.create("layer", Some(&base));
    let path = store.graph().mount(&layer, &MountOptions::default()).unwrap().keep().unwrap();
    fs::write(path.join("file"), "kept").unwrap();
    fails(store.graph().remove(&layer), ErrorKind::LayerInUse);
    let other = store.reopen();
    fails(other.remove(&layer), ErrorKind::LayerInUse);
    assert_eq!(fs::read(path.join("file")).unwrap(), b"kept");
    other.unmount(&layer).unwrap();
    fails(other.unmount(&layer), ErrorKind::InvalidArgument);
    fails(store.graph().unmount(&layer), ErrorKind::InvalidArgument);
    store.remove(&layer);
}

pub fn read_only_mount(store: &Store) {
    let base = store.create("base", None);
    store.edit(&base, |root| fs::write(root.join("file"), "base").unwrap());
    let layer = store.create("layer", Some(&base));
    let mount = store.graph().mount(&layer, &MountOptions::read_only()).unwrap();
    assert_eq!(fs::read(mount.path().join("file")).unwrap(), b"base");
    let refused = fs::write(mount.path().join("new"), "").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    mount.unmount().unwrap();
}

pub fn mount_options(store: &Store) {
    let base = store.create("base", None);
    let layer = store.create("layer", Some(&base));
    let options = MountOptions { extra: vec!["no-such-option".to_owned()], ..MountOptions::default() };
    let message = fails(store.graph().mount(&layer, &options), ErrorKind::InvalidArgument);
    assert!(message.contains("mount option") || message.contains("no-such-option"), "{message}");
    store.edit(&layer, |root| fs::write(root.join("file"), "").unwrap());
    store.remove(&layer);
}

pub fn two_processes(store: &Store) {
    let base = store.create("base", None);
    let layer = store.create("layer", Some(&base));
    let mount = store.graph().mount(&layer, &MountOptions::default()).unwrap();
    let other = Holder::start(store.configuration(), store.dir(), &layer);
    fs::write(mount.path().join("mine"), "").unwrap();
    assert!(other.path().join("mine").exists(), "both see one mount");
    mount.unmount().unwrap();
    fs::write(other.path().join("still mounted"), "").unwrap();
    fails(store.graph().remove(&layer), ErrorKind::LayerInUse);
    // Its reference is not ours to give back.
    fails(store.graph().unmount(&layer), ErrorKind::InvalidArgument);
    other.finish();
    store.edit(&layer, |root| assert!(root.join("still mounted").exists()));
    store.remove(&layer);
}

pub fn killed_process(store: &Store) {
    let base = store.create("base", None);
    let layer = store.create("layer", Some(&base));
    let other = Holder::start(store.configuration(), store.dir(), &layer);
    fails(store.graph().remove(&layer), ErrorKind::LayerInUse);
    other.kill();
    // What it held is nobody's now; a reference of ours takes the mount over and ends it.
    store.edit(&layer, |root| fs::write(root.join("file"), "").unwrap());
    fails(store.graph().unmount(&layer), ErrorKind::InvalidArgument);
    store.remove(&layer);
}
