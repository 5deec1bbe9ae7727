//! What is found amiss in a home, and what a repair does about it.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use graphdriver_core::{Graph, MountOptions, Remedy};
use graphdriver_sys::ofd_lock::{LockKind, try_lock};
use support::{Store, base, id, names, on, write};

/// A store with the chain `bottom`, `middle`, `top`, each with a file of its name.
struct Chain {
    store: Store,
    graph: Graph,
    home: PathBuf,
}

impl Chain {
    fn new() -> Self {
        Self::named("overlay")
    }

    /// As Docker makes them: nothing beside `diff` in the lowest layer, no mount points, marks of parents, and the daemon's own directories beside the home.
    fn of_dockers() -> Self {
        let chain = Self::named("overlay2");
        for layer in ["bottom", "middle", "top"] {
            for dir in ["merged", "empty"] {
                // The lowest layer alone has something to mount over.
                if layer == "bottom" || dir == "merged" {
                    fs::remove_dir(chain.path(layer).join(dir)).unwrap();
                }
            }
        }
        fs::remove_dir(chain.path("bottom/work/work")).unwrap();
        fs::remove_dir(chain.path("bottom/work")).unwrap();
        assert_eq!(names(chain.path("bottom")), ["committed", "diff", "link"]);
        assert_eq!(names(chain.path("middle")), ["committed", "diff", "link", "lower", "work"]);
        fs::write(chain.path("backingFsBlockDev"), "").unwrap();
        fs::create_dir_all(chain.store.root().join("image/overlay2/layerdb")).unwrap();
        assert_eq!(chain.check(false), [""; 0]);
        chain
    }

    fn named(name: &str) -> Self {
        let store = Store::new();
        let graph = store.open_named(name);
        let home = store.root().join(name);
        for (layer, create) in [("bottom", base()), ("middle", on("bottom")), ("top", on("middle"))] {
            graph.create(&id(layer), &create).unwrap();
            write(&graph, layer, layer, layer);
        }
        assert_eq!(graph.check(false).unwrap(), []);
        Self { store, graph, home }
    }

    fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.home.join(path)
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
        let before = listing(&self.home);
        let found = self.check(false);
        assert!(found.iter().any(|line| line.contains(what) && line.contains("(a repair ")), "{found:?}");
        assert_eq!(listing(&self.home), before, "looking has changed something");
        let [problem] = <[_; 1]>::try_from(self.graph.check(true).unwrap()).unwrap();
        assert_eq!(problem.remedy, Remedy::Repaired, "{problem}");
        assert_eq!(self.check(false), [""; 0]);
        self.assert_intact();
    }

    /// Checks that the one thing found contains `what`, and that a repair leaves everything as it is.
    #[track_caller]
    fn leaves(&self, what: &str) {
        let before = listing(&self.home);
        for repair in [false, true] {
            let problems = self.graph.check(repair).unwrap();
            assert!(problems.iter().any(|problem| problem.to_string().contains(what)), "{problems:?}");
            if repair {
                assert!(
                    problems.iter().all(|problem| matches!(problem.remedy, Remedy::Manual(_))),
                    "{problems:?}"
                );
            }
            assert_eq!(listing(&self.home), before);
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

#[test]
#[ignore = "needs root"]
fn a_home_of_dockers_is_mended_likewise() {
    let lost = |break_it: &dyn Fn(&Chain), what: &str| {
        let chain = Chain::of_dockers();
        break_it(&chain);
        chain.mends(what);
    };
    let unlink =
        |chain: &Chain, layer: &str| fs::remove_file(chain.path("l").join(chain.link(layer))).unwrap();
    lost(&|chain| unlink(chain, "middle"), "layer middle: its short name");
    lost(&|chain| fs::remove_file(chain.path("bottom/link")).unwrap(), "layer bottom: its link file is lost");
    lost(&|chain| fs::write(chain.path("top/link"), "").unwrap(), "layer top: its link file is lost");
    let forget = |chain: &Chain| {
        unlink(chain, "middle");
        fs::remove_file(chain.path("middle/link")).unwrap();
    };
    lost(&forget, "layer middle: its link file is lost");
    let leave_link = |chain: &Chain| symlink("../gone/diff", chain.path("l/GONE")).unwrap();
    lost(&leave_link, "leads to layer gone, which is gone");
}

/// What a daemon that was killed leaves may be what one that runs is making.
#[test]
#[ignore = "needs root"]
fn half_a_layer_of_dockers_is_left_to_people() {
    let chain = Chain::of_dockers();
    for layer in ["0123abcd", "0123abcd-init"] {
        let half = chain.path(layer);
        fs::create_dir(&half).unwrap();
        let [problem] = <[_; 1]>::try_from(chain.graph.check(true).unwrap()).unwrap();
        assert!(problem.remains() && problem.to_string().contains("Docker's"), "{problem}");
        assert!(half.is_dir());
        chain.graph.remove(&id(layer)).unwrap();
        assert!(!half.exists());
    }
    chain.assert_intact();
    assert_eq!(chain.check(true), [""; 0]);
}

#[test]
#[ignore = "needs root"]
fn leftovers_of_processes_are_told_and_go() {
    let chain = Chain::new();
    let temp = chain.path("tempdirs/temp-dir-x");
    fs::create_dir_all(temp.join("layer/diff")).unwrap();
    fs::write(chain.path("tempdirs/lock-x"), "").unwrap();
    let staging = chain.path("staging/123");
    fs::create_dir_all(staging.join("dir")).unwrap();
    fs::write(staging.join("staging.lock"), "").unwrap();
    let hour = SystemTime::now() - Duration::from_secs(3600);
    File::open(&staging).unwrap().set_modified(hour).unwrap();
    let found = chain.check(false);
    assert_eq!(found.len(), 2, "{found:?}");
    for (line, path) in found.iter().zip([&temp, &staging]) {
        assert_eq!(*line, format!("{path:?}: left by a process that is gone (a repair removes it)"));
    }
    assert_eq!(chain.check(true), [""; 0]);
    assert!(!temp.exists() && !staging.exists());
    chain.assert_intact();
}
