//! Layers that are read while they are written to.

use std::fs;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use graphdriver_archive::IdMaps;
use graphdriver_core::{ErrorKind, MountOptions};

use crate::content;
use crate::store::{Store, fails};

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

/// Either the layer stays until its diff was read, or the diff says that it is not whole. A short archive that looks whole would be data lost.
pub fn diff_while_layer_is_removed(store: &Store) {
    let base = store.create("base", None);
    let layer = store.create("layer", Some(&base));
    store.edit(&layer, |root| {
        for index in 0..100 {
            fs::write(root.join(format!("file-{index}")), content::bytes(index, 50_000)).unwrap();
        }
    });
    let whole = store.diff(&layer, Some(&base)).len();
    let mut diff = store.graph().diff(&layer, Some(&base), &IdMaps::default()).unwrap();
    diff.read_exact(&mut [0; 512]).unwrap();
    let removed = store.reopen().remove(&layer);
    let read = diff.read_to_end(&mut Vec::new());
    if removed.is_err() {
        fails(removed, ErrorKind::LayerInUse);
    }
    assert!(read.is_err() || read.unwrap() + 512 == whole, "the archive is short");
    drop(diff);
    if store.graph().exists(&layer).unwrap() {
        store.remove(&layer);
    }
}
