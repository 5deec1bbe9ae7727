//! Checks that a home holds complete layers and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use graphdriver_core::{Graph, MountOptions};

use super::{Store, names};

/// What is unpacked into layers whose names begin with `filled`.
pub(crate) const CONTENTS: [&str; 9] = ["a/", "a/b/", "a/b/c", "a/b/d", "a/e", "f/", "f/g", "h", "i"];

/// Every layer is complete, and nothing but layers is left.
#[track_caller]
pub(crate) fn assert_intact(store: &Store, graph: &Graph) {
    let home = store.home();
    let layers = graph.layers().unwrap();
    let mut links = BTreeSet::new();
    for layer in &layers {
        let dir = home.join(layer);
        for part in ["diff", "work", "merged"] {
            assert!(dir.join(part).is_dir(), "{layer} has no {part}");
        }
        let link = fs::read_to_string(dir.join("link")).unwrap();
        let target = fs::read_link(home.join("l").join(&link)).unwrap();
        assert_eq!(target, Path::new("..").join(layer).join("diff"));
        links.insert(link);
        if layer.as_str().starts_with("filled") {
            assert_filled(&dir.join("diff"));
        }
        if let Some(parent) = graph.parent(layer).unwrap() {
            assert!(graph.exists(&parent).unwrap(), "{layer} lacks its parent {parent}");
        }
        let mount = graph.mount(layer, &MountOptions::default()).unwrap();
        fs::write(mount.path().join("written"), "").unwrap();
        mount.unmount().unwrap();
    }
    assert_eq!(names(home.join("l")), links.into_iter().collect::<Vec<_>>());
    assert_eq!(names(home.join("tempdirs")), [""; 0]);
    let others = names(&home).into_iter().filter(|name| name.parse().is_ok_and(|id| !layers.contains(&id)));
    assert_eq!(others.collect::<Vec<_>>(), [""; 0]);
}

/// All of [`CONTENTS`] is in the directory.
#[track_caller]
pub(crate) fn assert_filled(dir: &Path) {
    for name in CONTENTS {
        let path = dir.join(name);
        match name.strip_suffix('/') {
            Some(_) => assert!(path.is_dir(), "{path:?} is missing"),
            None => assert_eq!(fs::read_to_string(&path).unwrap(), name, "{path:?}"),
        }
    }
}
