//! Docker's mark of layers that others lie on.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use graphdriver_core::{ErrorKind, LayerApplyOptions, MountOptions};
use support::{Store, archive, base, id, on};

#[test]
#[ignore = "needs root"]
fn parents_are_marked_in_homes_of_dockers() {
    for (name, marks) in [("overlay", false), ("overlay2", true)] {
        let store = Store::new();
        let graph = store.open_named(name);
        graph.create(&id("base"), &base()).unwrap();
        let mark = store.root().join(name).join("base/committed");
        assert!(!mark.exists());
        graph.create(&id("child"), &on("base")).unwrap();
        graph.create(&id("other"), &on("base")).unwrap();
        assert_eq!(mark.exists(), marks, "{name}");
        if marks {
            let metadata = mark.metadata().unwrap();
            assert_eq!((metadata.len(), metadata.permissions().mode() & 0o7777), (0, 0o600));
        }
        assert!(!store.root().join(name).join("child/committed").exists());
    }
}

#[test]
#[ignore = "needs root"]
fn a_marked_layer_is_not_written_to() {
    let store = Store::new();
    let graph = store.open();
    graph.create(&id("base"), &base()).unwrap();
    graph.create(&id("layer"), &on("base")).unwrap();
    for layer in ["base", "layer"] {
        fs::write(store.home().join(layer).join("committed"), "").unwrap();
        let mount = graph.mount(&id(layer), &MountOptions::default()).unwrap();
        let refused = fs::write(mount.path().join("file"), "").unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        mount.unmount().unwrap();
        let archive = archive(&["file"]);
        let refused = graph.apply(&id(layer), &mut &*archive, &LayerApplyOptions::default()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::LayerInUse);
        assert!(refused.to_string().contains("Docker"), "{refused}");
        assert_eq!(fs::read_dir(store.home().join(layer).join("diff")).unwrap().count(), 0);
    }
    graph.remove(&id("layer")).unwrap();
    graph.remove(&id("base")).unwrap();
}

#[test]
#[ignore = "needs root"]
fn a_child_that_is_not_made_marks_nobody() {
    let store = Store::new();
    let graph = store.open_named("overlay2");
    for layer in ["base", "taken"] {
        graph.create(&id(layer), &base()).unwrap();
    }
    let refused = graph.create(&id("taken"), &on("base")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LayerExists);
    // What a killed process of another program left has the name of the child.
    fs::create_dir_all(store.root().join("overlay2/left/work")).unwrap();
    let refused = graph.create(&id("left"), &on("base")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LayerExists);
    assert!(!store.root().join("overlay2/base/committed").exists());
}
