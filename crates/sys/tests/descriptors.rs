//! What a thread closes while others make user namespaces. The only test of its process: others start programs, which have copies of all descriptors for a moment.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use graphdriver_sys::user_namespace::{IdRange, create};

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn is_closed_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    // The lock is that of the open file, so it goes with the last descriptor.
    let is_free = || File::create(&path).unwrap().try_lock().is_ok();
    let ids = [IdRange { inside: 0, outside: 10_000, count: 1000 }];
    let done = AtomicBool::new(false);
    let always_free = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                create(&ids, &ids).unwrap();
            }
        });
        let always_free = (0..20_000).all(|_| is_free());
        done.store(true, Ordering::Relaxed);
        always_free
    });
    assert!(always_free);
}
