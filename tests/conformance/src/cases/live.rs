//! Layers that are read while they are written to.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use graphdriver_core::MountOptions;

use crate::content;
use crate::store::Store;

/// A container goes on running while it is committed: what vanishes in between is left out, and the archive stays whole.
pub fn diff_while_files_vanish(store: &Store) {
    let base = store.create("base", None);
    let layer = store.create("layer", Some(&base));
    let mount = store.graph().mount(&layer, &MountOptions::default()).unwrap();
    for index in 0..200 {
        fs::write(mount.path().join(format!("stays-{index}")), content::bytes(index, 5000)).unwrap();
    }
    let stop = AtomicBool::new(false);
    let archives: Vec<Vec<u8>> = thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                churn(mount.path(), round);
                round += 1;
            }
        });
        let archives = (0..5).map(|_| store.diff(&layer, Some(&base))).collect();
        stop.store(true, Ordering::Relaxed);
        archives
    });
    mount.unmount().unwrap();
    for (index, archive) in archives.iter().enumerate() {
        let copy = store.create(&format!("copy-{index}"), Some(&base));
        store.apply(&copy, archive);
        store.edit(&copy, |root| {
            for index in 0..200 {
                let file = fs::read(root.join(format!("stays-{index}"))).unwrap();
                assert!(file == content::bytes(index, 5000), "stays-{index} is not as it was");
            }
        });
    }
}

/// Files that come and go, grow and shrink, and directories with them.
fn churn(root: &std::path::Path, round: u64) {
    let dir = root.join(format!("dir-{}", round % 3));
    fs::create_dir_all(&dir).unwrap();
    for index in 0..10 {
        let file = dir.join(format!("passing-{index}"));
        fs::write(&file, content::bytes(round, 20_000)).unwrap();
        fs::write(&file, content::bytes(round, 10)).unwrap();
    }
    for index in 0..10 {
        fs::remove_file(dir.join(format!("passing-{index}"))).unwrap();
    }
    fs::remove_dir(&dir).unwrap();
}
