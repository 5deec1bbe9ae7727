//! Edits that times and sizes do not show.

use std::fs::{self, File, FileTimes};
use std::path::Path;
use std::time::SystemTime;

use crate::configuration::Driver;
use crate::store::Store;

fn mtime(path: &Path) -> SystemTime {
    path.metadata().unwrap().modified().unwrap()
}

fn set_mtime(path: &Path, time: SystemTime) {
    File::options().write(true).open(path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
}

/// Go waits for the next second so as not to miss this.
pub fn same_second_same_size(store: &Store) {
    let base = store.create("base", None);
    store.edit(&base, |root| fs::write(root.join("file"), "first").unwrap());
    store.tick();
    let child = store.create("child", Some(&base));
    store.edit(&child, |root| fs::write(root.join("file"), "other").unwrap());
    assert_eq!(store.changes(&child, Some(&base)), ["C /file"]);
    let copy = store.create("copy", Some(&base));
    store.apply(&copy, &store.diff(&child, Some(&base)));
    store.edit(&copy, |root| assert_eq!(fs::read(root.join("file")).unwrap(), b"other"));
}

/// The edit comes right after the copy was made, within the same step of the file system's clock.
pub fn restored_time(store: &Store) {
    let base = store.create("base", None);
    store.edit(&base, |root| {
        fs::write(root.join("edited"), "first").unwrap();
        fs::write(root.join("same"), "first").unwrap();
    });
    // Each round runs programs there, and a guest is slow.
    let rounds = if store.configuration().driver == Driver::Zfs { 5 } else { 20 };
    for round in 0..rounds {
        let child = store.create("child", Some(&base));
        store.edit(&child, |root| {
            let file = root.join("edited");
            let time = mtime(&file);
            fs::write(&file, "other").unwrap();
            set_mtime(&file, time);
            assert_eq!(mtime(&file), time);
        });
        assert_eq!(store.changes(&child, Some(&base)), ["C /edited"], "round {round}");
        assert_eq!(store.graph().diff_size(&child, Some(&base)).unwrap(), 5);
        store.remove(&child);
    }
}

/// Written with what it had and given its old time: contents are looked at, and equal.
pub fn touched(store: &Store) {
    let base = store.create("base", None);
    store.edit(&base, |root| fs::write(root.join("file"), "same").unwrap());
    let child = store.create("child", Some(&base));
    store.edit(&child, |root| {
        let file = root.join("file");
        let time = mtime(&file);
        fs::write(&file, "same").unwrap();
        set_mtime(&file, time);
    });
    assert_eq!(store.changes(&child, Some(&base)), [""; 0]);
}

/// Nobody should write to a parent; who does finds the layers compared as they are.
pub fn of_the_parent(store: &Store) {
    let base = store.create("base", None);
    store.edit(&base, |root| fs::write(root.join("file"), "first").unwrap());
    let child = store.create("child", Some(&base));
    store.edit(&base, |root| {
        let file = root.join("file");
        let time = mtime(&file);
        fs::write(&file, "other").unwrap();
        set_mtime(&file, time);
    });
    assert_eq!(store.changes(&child, Some(&base)), ["C /file"]);
}
