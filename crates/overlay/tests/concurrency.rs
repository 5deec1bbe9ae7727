//! Several users of one home at once. Each opens it for itself: their locks are as strange to each other as those of processes.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::fs;
use std::thread;

use graphdriver_core::{ErrorKind, MountOptions};
use support::{Store, base, id, names, on};

#[test]
#[ignore = "needs root"]
fn one_of_many_makes_the_layer() {
    let store = Store::new();
    for round in 0..20 {
        let layer = id(&format!("layer-{round}"));
        let create = || store.open().create(&layer, &base());
        let results: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(create)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let failures: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
        assert_eq!(failures.len(), 7);
        assert!(failures.iter().all(|error| error.kind() == ErrorKind::LayerExists), "{failures:?}");
    }
    assert_eq!(names(store.home().join("l")).len(), 20);
    assert!(names(store.home().join("tempdirs")).is_empty());
}

#[test]
#[ignore = "needs root"]
fn no_layer_loses_its_parent() {
    let store = Store::new();
    let make_parents = || {
        let graph = store.open();
        for _ in 0..200 {
            match graph.create(&id("parent"), &base()) {
                Ok(()) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::LayerExists, "{}", error.report()),
            }
            match graph.remove(&id("parent")) {
                Ok(()) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::LayerInUse, "{}", error.report()),
            }
        }
    };
    let make_children = || {
        let graph = store.open();
        let mut made = 0;
        for number in 0..200 {
            match graph.create(&id(&format!("child-{number}")), &on("parent")) {
                Ok(()) => made += 1,
                Err(error) => assert_eq!(error.kind(), ErrorKind::ParentUnknown, "{}", error.report()),
            }
            // From time to time the parent is free to go.
            if made > 3 {
                for layer in graph.layers().unwrap().iter().filter(|layer| layer.as_str() != "parent") {
                    assert_eq!(graph.parent(layer).unwrap(), Some(id("parent")));
                    graph.mount(layer, &MountOptions::default()).unwrap().unmount().unwrap();
                    graph.remove(layer).unwrap();
                }
                made = 0;
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(make_parents);
        scope.spawn(make_children);
    });
    let graph = store.open();
    for layer in graph.layers().unwrap() {
        graph.mount(&layer, &MountOptions::default()).unwrap().unmount().unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn many_users_of_one_mount() {
    let store = Store::new();
    let graph = store.open();
    graph.create(&id("layer"), &base()).unwrap();
    let use_it = |user: usize| {
        let graph = store.open();
        for round in 0..50 {
            let mount = graph.mount(&id("layer"), &MountOptions::default()).unwrap();
            let path = mount.path().join(format!("file-{user}"));
            fs::write(&path, round.to_string()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), round.to_string());
            mount.unmount().unwrap();
        }
    };
    thread::scope(|scope| {
        for user in 0..4 {
            let use_it = &use_it;
            scope.spawn(move || use_it(user));
        }
    });
    assert!(names(store.home().join("layer/merged")).is_empty(), "still mounted");
    let files = names(store.home().join("layer/diff"));
    assert_eq!(files, ["file-0", "file-1", "file-2", "file-3"]);
    graph.remove(&id("layer")).unwrap();
}
