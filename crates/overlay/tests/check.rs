//! What is found amiss in a home, and what a repair does about it.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use graphdriver_core::{Graph, MountOptions, Remedy};
use graphdriver_sys::ofd_lock::{LockKind, try_lock};
use support::{Store, base, id, names, on, write};

/// A store with the chain `bottom`, `middle`, `top`, each with a file of its name.
struct Chain {
    store: Store,
    graph: Graph,
}

impl Chain {
    fn new() -> Self {
        let store = Store::new();
        let graph = store.open();
        graph.create(&id("bottom"), &base()).unwrap();
        graph.create(&id("middle"), &on("bottom")).unwrap();
        graph.create(&id("top"), &on("middle")).unwrap();
        for layer in ["bottom", "middle", "top"] {
            write(&graph, layer, layer, layer);
        }
        assert_eq!(graph.check(false).unwrap(), []);
        Self { store, graph }
    }

    fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.store.home().join(path)
    }

    fn link(&self, layer: &str) -> String {
        fs::read_to_string(self.path(layer).join("link")).unwrap()
    }

    /// What is told, one line for each problem.
    #[track_caller]
    fn check(&self, repair: bool) -> Vec<String> {
        self.graph.check(repair).unwrap().iter().map(ToString::to_string).collect()
    }

    /// Checks that a look changes nothing and finds one thing that contains `what`; that a repair mends it; and that all is well then.
    #[track_caller]
    fn mends(&self, what: &str) {
        let before = listing(&self.store.home());
        let found = self.check(false);
        assert!(found.iter().any(|line| line.contains(what) && line.contains("(a repair ")), "{found:?}");
        assert_eq!(listing(&self.store.home()), before, "looking has changed something");
        let [problem] = <[_; 1]>::try_from(self.graph.check(true).unwrap()).unwrap();
        assert_eq!(problem.remedy, Remedy::Repaired, "{problem}");
        assert_eq!(self.check(false), [""; 0]);
        self.assert_intact();
    }

    /// Checks that the one thing found contains `what`, and that a repair leaves everything as it is.
    #[track_caller]
    fn leaves(&self, what: &str) {
        let before = listing(&self.store.home());
        for repair in [false, true] {
            let problems = self.graph.check(repair).unwrap();
            assert!(problems.iter().any(|problem| problem.to_string().contains(what)), "{problems:?}");
            if repair {
                assert!(
                    problems.iter().all(|problem| matches!(problem.remedy, Remedy::Manual(_))),
                    "{problems:?}"
                );
            }
            assert_eq!(listing(&self.store.home()), before);
        }
    }

    #[track_caller]
    fn assert_intact(&self) {
        let mount = self.graph.mount(&id("top"), &MountOptions::default()).unwrap();
        for layer in ["bottom", "middle", "top"] {
            assert_eq!(fs::read_to_string(mount.path().join(layer)).unwrap(), layer);
        }
        mount.unmount().unwrap();
        assert_eq!(self.graph.parent(&id("top")).unwrap(), Some(id("middle")));
        assert_eq!(self.graph.parent(&id("middle")).unwrap(), Some(id("bottom")));
    }
}

/// Every path below, with what links lead to and small files hold.
fn listing(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for name in names(dir).into_iter().filter(|name| name != ".graphdriver.lock") {
        let path = dir.join(&name);
        let metadata = path.symlink_metadata().unwrap();
        if metadata.is_dir() {
            found.push(format!("{}/", path.display()));
            found.extend(listing(&path));
        } else if metadata.is_symlink() {
            found.push(format!("{} -> {}", path.display(), fs::read_link(&path).unwrap().display()));
        } else {
            found.push(format!("{}: {:?}", path.display(), fs::read(&path).unwrap()));
        }
    }
    found
}

#[test]
#[ignore = "needs root"]
fn a_lost_link_is_made_again() {
    let chain = Chain::new();
    fs::remove_file(chain.path("l").join(chain.link("middle"))).unwrap();
    chain.mends("layer middle: its short name");
}

#[test]
#[ignore = "needs root"]
fn a_link_that_leads_elsewhere_is_mended() {
    let chain = Chain::new();
    let link = chain.path("l").join(chain.link("middle"));
    fs::remove_file(&link).unwrap();
    symlink("../gone/diff", &link).unwrap();
    chain.mends("layer middle: its short name");
}

#[test]
#[ignore = "needs root"]
fn a_link_that_leads_to_another_layer_is_left_to_people() {
    let chain = Chain::new();
    let link = chain.path("l").join(chain.link("middle"));
    fs::remove_file(&link).unwrap();
    symlink("../top/diff", &link).unwrap();
    chain.leaves("it leads to layer top");
}

#[test]
#[ignore = "needs root"]
fn a_lost_link_file_is_written_from_the_link() {
    for contents in [None, Some(""), Some("a/b")] {
        let chain = Chain::new();
        let link = chain.link("middle");
        let file = chain.path("middle/link");
        contents.map_or_else(|| fs::remove_file(&file), |text| fs::write(&file, text)).unwrap();
        chain.mends("layer middle: its link file is lost");
        assert_eq!(chain.link("middle"), link);
    }
}

#[test]
#[ignore = "needs root"]
fn a_name_of_which_nothing_is_left_is_known_by_the_layers_above() {
    for layer in ["bottom", "middle"] {
        let chain = Chain::new();
        let link = chain.link(layer);
        fs::remove_file(chain.path("l").join(&link)).unwrap();
        fs::remove_file(chain.path(layer).join("link")).unwrap();
        chain.mends(&format!("layer {layer}: its link file is lost"));
        assert_eq!(chain.link(layer), link);
    }
}

#[test]
#[ignore = "needs root"]
fn a_name_that_nobody_uses_is_replaced_by_a_new_one() {
    let chain = Chain::new();
    fs::remove_file(chain.path("l").join(chain.link("top"))).unwrap();
    fs::remove_file(chain.path("top/link")).unwrap();
    chain.mends("layer top: its link file is lost");
}

#[test]
#[ignore = "needs root"]
fn two_layers_that_could_have_one_name_are_left_to_people() {
    let chain = Chain::new();
    chain.graph.create(&id("other"), &base()).unwrap();
    for layer in ["bottom", "other"] {
        fs::remove_file(chain.path("l").join(chain.link(layer))).unwrap();
        fs::remove_file(chain.path(layer).join("link")).unwrap();
    }
    chain.leaves("which layer is called what cannot be told");
}

#[test]
#[ignore = "needs root"]
fn one_name_for_two_layers_is_left_to_people() {
    let chain = Chain::new();
    fs::remove_file(chain.path("l").join(chain.link("top"))).unwrap();
    fs::write(chain.path("top/link"), chain.link("middle")).unwrap();
    chain.leaves("layer top has it too");
}

#[test]
#[ignore = "needs root"]
fn a_dead_link_goes_unless_layers_lie_on_it() {
    let chain = Chain::new();
    symlink("../gone/diff", chain.path("l/ABCDEFGHIJKLMNOPQRSTUVWXYZ")).unwrap();
    chain.mends("leads to layer gone, which is gone");
    fs::rename(chain.path("bottom"), chain.store.dir().join("aside")).unwrap();
    chain.leaves("layers lie on it");
    chain.leaves("layer top: the layer l/");
    fs::rename(chain.store.dir().join("aside"), chain.path("bottom")).unwrap();
    assert_eq!(chain.check(false), [""; 0]);
    chain.assert_intact();
}

#[test]
#[ignore = "needs root"]
fn half_a_layer_goes_unless_something_is_in_it() {
    let chain = Chain::new();
    let half = chain.path("half");
    fs::create_dir_all(half.join("work/work")).unwrap();
    fs::create_dir(half.join("merged")).unwrap();
    fs::write(half.join("link"), "ABCDEFGHIJKLMNOPQRSTUVWXYZ").unwrap();
    symlink("../half/diff", chain.path("l/ABCDEFGHIJKLMNOPQRSTUVWXYZ")).unwrap();
    chain.mends("layer half: it has no diff");
    assert!(!half.exists() && !chain.path("l/ABCDEFGHIJKLMNOPQRSTUVWXYZ").is_symlink());

    fs::create_dir_all(half.join("diff1")).unwrap();
    chain.leaves("there is something in it");
    fs::remove_dir(half.join("diff1")).unwrap();
    fs::create_dir_all(half.join("merged/kept")).unwrap();
    fs::write(half.join("merged/kept/file"), "").unwrap();
    chain.leaves("there is something in it");
}

#[test]
#[ignore = "needs root"]
fn half_a_layer_stays_while_another_program_may_be_making_it() {
    let chain = Chain::new();
    fs::create_dir(chain.path("half")).unwrap();
    let layers = chain.store.root().join("overlay-layers");
    fs::create_dir(&layers).unwrap();
    let lock = File::create(layers.join("layers.lock")).unwrap();
    assert!(try_lock(&lock, 0, 0, LockKind::Exclusive).unwrap());
    let [problem] = <[_; 1]>::try_from(chain.graph.check(true).unwrap()).unwrap();
    assert!(problem.to_string().contains("containers/storage is at work"), "{problem}");
    assert!(chain.path("half").is_dir());
    drop(lock);
    fs::create_dir_all(chain.store.root().join("image/overlay")).unwrap();
    let [problem] = <[_; 1]>::try_from(chain.graph.check(true).unwrap()).unwrap();
    assert!(problem.to_string().contains("Docker's"), "{problem}");
    assert!(chain.path("half").is_dir());
    fs::remove_dir(chain.store.root().join("image/overlay")).unwrap();
    chain.mends("layer half: it has no diff");
}

#[test]
#[ignore = "needs root"]
fn stacks_that_do_not_fit_are_told() {
    let chain = Chain::new();
    let lower = chain.path("top/lower");
    let good = fs::read_to_string(&lower).unwrap();
    for (bad, what) in [
        ("l/AAAAAAAAAAAAAAAAAAAAAAAAAA", "the layer l/AAAAAAAAAAAAAAAAAAAAAAAAAA below it is missing"),
        ("gone/diff", "the layer gone/diff below it is missing"),
        ("../../etc", "is neither l/LINK nor ID/diff"),
        ("middle/diff", "its parent middle has other layers below it"),
    ] {
        fs::write(&lower, bad).unwrap();
        chain.leaves(&format!("layer top: {}", if bad == "../../etc" { "read" } else { what }));
        chain.leaves(what);
    }
    fs::write(&lower, good).unwrap();
    fs::write(&lower, "middle/diff:bottom/diff").unwrap();
    assert_eq!(chain.check(true), [""; 0], "both forms are right");
}

#[test]
#[ignore = "needs root"]
fn what_is_nobodys_is_told_and_stays() {
    let chain = Chain::new();
    for known in ["staging", "lost+found"] {
        fs::create_dir(chain.path(known)).unwrap();
    }
    fs::write(chain.path(".has-mount-program"), "false").unwrap();
    assert_eq!(chain.check(false), [""; 0]);
    fs::write(chain.path("notes.txt"), "mine").unwrap();
    chain.leaves("notes.txt\": is neither a layer nor a file of the driver");
    fs::remove_file(chain.path("notes.txt")).unwrap();
    fs::create_dir(chain.path("with space")).unwrap();
    chain.leaves("with space\": is neither");
    fs::remove_dir(chain.path("with space")).unwrap();
    fs::write(chain.path("l/README"), "").unwrap();
    chain.leaves("is no link to a layer");
}
