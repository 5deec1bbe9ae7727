//! Several processes that create, mount, write to, compare and remove layers of one home at once.

use std::collections::BTreeSet;
use std::env;
use std::process::Stdio;

use graphdriver_core::LayerId;

use crate::process::spawn;
use crate::sharing::{READER, is_intact};
use crate::store::{Store, id};

/// How long, in seconds; a minute and more shows what is rare.
const TIME: &str = "GRAPHDRIVER_STRESS_SECONDS";

pub fn several_processes(store: &Store) {
    let before = store.files();
    let seconds = env::var(TIME).unwrap_or_else(|_| "5".to_owned());
    let workers = ["one", "two", READER].map(|name| {
        let words =
            [store.configuration().name.as_ref(), store.dir().as_os_str(), name.as_ref(), seconds.as_ref()];
        spawn("share", &words, Stdio::inherit())
    });
    let outputs = workers.map(|worker| worker.wait_with_output().unwrap());
    let mut left = BTreeSet::new();
    for output in outputs {
        assert!(output.status.success(), "a process failed; its words are above");
        left.extend(String::from_utf8(output.stdout).unwrap().lines().map(id));
    }
    assert!(!left.is_empty());
    let layers: BTreeSet<LayerId> = store.graph().layers().unwrap().into_iter().collect();
    assert_eq!(layers, left, "what is there, and what the processes say they left");
    for layer in &layers {
        assert!(is_intact(store.graph(), layer));
    }
    remove_all(store, layers);
    store.assert_files(&before);
}

/// Children before their parents.
fn remove_all(store: &Store, mut layers: BTreeSet<LayerId>) {
    while !layers.is_empty() {
        let parents: BTreeSet<LayerId> =
            layers.iter().filter_map(|layer| store.graph().parent(layer).unwrap()).collect();
        for leaf in layers.difference(&parents).cloned().collect::<Vec<_>>() {
            store.remove(&leaf);
            layers.remove(&leaf);
        }
    }
}
