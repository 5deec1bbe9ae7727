//! Removing layers, and when that is refused.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use graphdriver_core::{ErrorKind, MountOptions};

use crate::store::{Store, fails, id};
use crate::tree::Times;

pub fn removes(store: &Store) {
    let before = store.files();
    let base = store.create("base", None);
    let layer = store.create("layer", Some(&base));
    store.edit(&layer, |root| {
        let dir = root.join("closed/deep");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("file"), "").unwrap();
        fs::set_permissions(dir, Permissions::from_mode(0o000)).unwrap();
    });
    store.remove(&layer);
    assert!(!store.graph().exists(&layer).unwrap());
    store.remove(&base);
    store.assert_files(&before);
    // The id is free again, and nothing of the old layer shows.
    let again = store.create("layer", None);
    assert_eq!(store.tree(&again, Times::Seconds).paths(), [""; 0]);
    assert_eq!(store.graph().parent(&again).unwrap(), None);
}

pub fn unknown(store: &Store) {
    let message = fails(store.graph().remove(&id("missing")), ErrorKind::LayerUnknown);
    assert!(message.contains("missing"), "{message}");
}

pub fn mounted(store: &Store) {
    let base = store.create("base", None);
    let layer = store.create("layer", Some(&base));
    let mount = store.graph().mount(&layer, &MountOptions::default()).unwrap();
    fs::write(mount.path().join("file"), "data").unwrap();
    fails(store.graph().remove(&layer), ErrorKind::LayerInUse);
    fails(store.reopen().remove(&layer), ErrorKind::LayerInUse);
    assert_eq!(fs::read(mount.path().join("file")).unwrap(), b"data");
    mount.unmount().unwrap();
    store.remove(&layer);
}

pub fn with_children(store: &Store) {
    let base = store.create("base", None);
    store.edit(&base, |root| fs::write(root.join("file"), "base").unwrap());
    let child = store.create("child", Some(&base));
    let message = fails(store.graph().remove(&base), ErrorKind::LayerInUse);
    assert!(message.contains("child"), "{message}");
    fails(store.reopen().remove(&base), ErrorKind::LayerInUse);
    assert_eq!(store.tree(&child, Times::Seconds).contents("file"), "base");
    store.remove(&child);
    store.remove(&base);
}

pub fn deferred(store: &Store) {
    let before = store.files();
    let [first, second] = ["first", "second"].map(|name| store.create(name, None));
    for layer in [&first, &second] {
        store.edit(layer, |root| fs::write(root.join("file"), "").unwrap());
    }
    let removal = store.graph().remove_deferred(&first).unwrap();
    assert!(!store.graph().exists(&first).unwrap());
    assert_eq!(store.graph().layers().unwrap(), std::slice::from_ref(&second));
    assert_ne!(store.files(), before);
    removal.finish().unwrap();
    // Forgetting to finish deletes too.
    drop(store.graph().remove_deferred(&second).unwrap());
    store.assert_files(&before);
    fails(store.graph().remove_deferred(&first), ErrorKind::LayerUnknown);
}
