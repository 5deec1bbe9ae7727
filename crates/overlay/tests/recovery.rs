//! What killed processes leave, and that it is gone or mended afterwards.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use graphdriver_core::{ErrorKind, Graph, LayerApplyOptions, MountOptions};
use support::intact::{CONTENTS, assert_intact};
use support::{Store, archive, base, id, names, on, write};

/// Tells a child process where its store is.
const ROOT: &str = "OVERLAY_TEST_ROOT";

/// Runs the test `name` once more in a child process, which takes the other half of the test: says `ready` and goes on until it is killed.
fn start(name: &str, store: &Store) -> Child {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .env(ROOT, store.dir())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.ends_with("ready")), "the child did not begin");
    child
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The store of the parent process, in a child process.
fn parents_store() -> Option<Graph> {
    env::var_os(ROOT).map(|root| support::open_at(Path::new(&root)))
}

#[test]
#[ignore = "needs root"]
fn links_of_layers_that_never_came_to_be_are_removed() {
    let store = Store::new();
    let (graph, home) = (store.open(), store.home());
    graph.create(&id("layer"), &base()).unwrap();
    let link = fs::read_to_string(home.join("layer/link")).unwrap();
    // One layer was being made or removed, and of another a directory is left that has the link of an existing one.
    for (temp, link) in [("aaa", "DANGLING"), ("bbb", link.as_str())] {
        let layer = home.join("tempdirs").join(format!("temp-dir-{temp}/layer"));
        fs::create_dir_all(layer.join("diff")).unwrap();
        fs::write(layer.join("link"), link).unwrap();
        fs::write(home.join("tempdirs").join(format!("lock-{temp}")), "").unwrap();
    }
    symlink("../gone/diff", home.join("l/DANGLING")).unwrap();
    drop(graph);
    let graph = store.open();
    assert_eq!(names(home.join("l")), [link]);
    assert_intact(&store, &graph);
}

#[test]
#[ignore = "needs root"]
fn layers_are_complete_or_absent_after_a_kill() {
    if let Some(graph) = parents_store() {
        return make_and_remove_layers(&graph);
    }
    let store = Store::new();
    let graph = store.open();
    graph.create(&id("base"), &base()).unwrap();
    write(&graph, "base", "file", "base");
    for round in 0..40 {
        let child = start("layers_are_complete_or_absent_after_a_kill", &store);
        sleep(Duration::from_micros(400 * round));
        kill(child);
        assert_intact(&store, &store.open());
    }
    // Children before parents.
    for kind in ["child", "filled", "base"] {
        for layer in graph.layers().unwrap().iter().filter(|layer| layer.as_str().starts_with(kind)) {
            graph.remove(layer).unwrap();
        }
    }
    assert_eq!(graph.layers().unwrap(), []);
    assert_intact(&store, &graph);
}

fn make_and_remove_layers(graph: &Graph) {
    println!("ready");
    let (pid, tar) = (std::process::id(), archive(&CONTENTS));
    for number in 0.. {
        let layer = id(&format!("filled-{pid}-{number}"));
        graph.create_filled(&layer, &on("base"), &mut tar.as_slice(), &LayerApplyOptions::default()).unwrap();
        graph.remove(&layer).unwrap();
        graph.create_filled(&layer, &on("base"), &mut tar.as_slice(), &LayerApplyOptions::default()).unwrap();
        let layer = id(&format!("child-{pid}-{number}"));
        graph.create(&layer, &on(&format!("filled-{pid}-{number}"))).unwrap();
        let mount = graph.mount(&layer, &MountOptions::default()).unwrap();
        fs::write(mount.path().join("file"), "child").unwrap();
        mount.unmount().unwrap();
        if number % 3 != 0 {
            graph.remove(&layer).unwrap();
        }
    }
}

#[test]
#[ignore = "needs root"]
fn mounts_of_killed_processes_are_given_back() {
    if let Some(graph) = parents_store() {
        return mount_layers(&graph);
    }
    let store = Store::new();
    let graph = store.open();
    for layer in ["used", "cleaned", "removed"] {
        graph.create(&id(layer), &base()).unwrap();
    }
    let child = start("mounts_of_killed_processes_are_given_back", &store);
    for layer in ["used", "cleaned", "removed"] {
        assert_eq!(graph.remove(&id(layer)).unwrap_err().kind(), ErrorKind::LayerInUse);
    }
    graph.cleanup().unwrap();
    assert_eq!(names(store.home().join("cleaned/merged")), ["file"], "cleanup took a mount that was in use");
    kill(child);
    let mount = graph.mount(&id("used"), &MountOptions::default()).unwrap();
    assert_eq!(fs::read_to_string(mount.path().join("file")).unwrap(), "child");
    graph.remove(&id("removed")).unwrap();
    graph.cleanup().unwrap();
    assert!(names(store.home().join("cleaned/merged")).is_empty());
    assert_eq!(names(mount.path()), ["file"], "cleanup took a mount that was in use");
    mount.unmount().unwrap();
    assert_intact(&store, &graph);
}

fn mount_layers(graph: &Graph) {
    let mounts = ["used", "cleaned", "removed"].map(|layer| {
        let mount = graph.mount(&id(layer), &MountOptions::default()).unwrap();
        fs::write(mount.path().join("file"), "child").unwrap();
        mount
    });
    println!("ready");
    sleep(Duration::from_secs(3600));
    drop(mounts);
}
