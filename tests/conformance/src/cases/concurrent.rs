//! Several threads at once, each with the home opened for itself or shared.

use std::fs;
use std::sync::Barrier;
use std::thread;

use graphdriver_core::{CreateOptions, ErrorKind, LayerApplyOptions, MountOptions};

use crate::configuration::Driver;
use crate::store::{Store, id};
use crate::tarball::{Entry, Tarball};
use crate::tree::Times;

const THREADS: usize = 8;

pub fn creates_of_one_id(store: &Store) {
    let base = store.fill("base", None, &Tarball::of([Entry::file("file", "base")]));
    // With zfs, a round is two hundred processes.
    let rounds = if store.configuration().driver == Driver::Zfs { 2 } else { 5 };
    for round in 0..rounds {
        let layer = id(&format!("layer-{round}"));
        let barrier = Barrier::new(THREADS);
        let kinds: Vec<Option<ErrorKind>> = thread::scope(|scope| {
            let workers: Vec<_> = (0..THREADS)
                .map(|index| {
                    let (graph, layer, base, barrier) = (store.opening(index), &layer, &base, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        // Both ways of making a layer, and with different contents.
                        let create = CreateOptions::on(base);
                        let result = if index % 3 == 0 {
                            graph.create(layer, &create)
                        } else {
                            let archive = Tarball::of([Entry::file("by", index.to_string())]);
                            let options = LayerApplyOptions::default();
                            graph.create_filled(layer, &create, &mut &*archive, &options).map(drop)
                        };
                        result.err().map(|error| error.kind())
                    })
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).collect()
        });
        assert_eq!(kinds.iter().filter(|kind| kind.is_none()).count(), 1, "{kinds:?}");
        assert!(kinds.iter().flatten().all(|kind| *kind == ErrorKind::LayerExists), "{kinds:?}");
        let winner = kinds.iter().position(Option::is_none).unwrap();
        let tree = store.tree(&layer, Times::Seconds);
        assert_eq!(tree.contents("file"), "base");
        if winner % 3 != 0 {
            assert_eq!(tree.contents("by"), winner.to_string());
        }
        assert_eq!(store.graph().parent(&layer).unwrap().as_ref(), Some(&base));
    }
}

pub fn mounts_of_one_layer(store: &Store) {
    let base = store.create("base", None);
    let layer = store.create("layer", Some(&base));
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        for index in 0..THREADS {
            let (graph, layer, barrier) = (store.opening(index), &layer, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for round in 0..10 {
                    let mount = graph.mount(layer, &MountOptions::default()).unwrap();
                    let file = mount.path().join(format!("{index}-{round}"));
                    fs::write(&file, "written").unwrap();
                    assert_eq!(fs::read(&file).unwrap(), b"written");
                    mount.unmount().unwrap();
                }
            });
        }
    });
    assert_eq!(store.tree(&layer, Times::Seconds).paths().len(), THREADS * 10);
    store.remove(&layer);
}
