//! Options of mounts: those of the driver, those of the caller, and what the kernel is told.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use graphdriver_core::{ErrorKind, Graph, IdMaps, MountOptions};
use support::{Store, base, id, on};

fn with(options: &[&str]) -> MountOptions {
    MountOptions { extra: options.iter().map(ToString::to_string).collect(), ..MountOptions::default() }
}

/// Options of the mount and of its file system, as mountinfo has them.
fn mounted(path: &Path) -> (String, String) {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let line = table.lines().rev().find(|line| line.split(' ').nth(4) == path.to_str()).unwrap();
    let fields: Vec<&str> = line.split(' ').collect();
    (fields[5].to_owned(), (*fields.last().unwrap()).to_owned())
}

fn seen(graph: &Graph, options: &MountOptions) -> (String, String) {
    let mount = graph.mount(&id("child"), options).unwrap();
    let seen = mounted(mount.path());
    mount.unmount().unwrap();
    seen
}

fn has(options: &str, option: &str) -> bool {
    options.split(',').any(|found| found == option)
}

fn store(options: &[&str]) -> (Store, Graph) {
    let store = Store::new();
    let graph = store.open_with_options(options);
    graph.create(&id("base"), &base()).unwrap();
    graph.create(&id("child"), &on("base")).unwrap();
    (store, graph)
}

#[test]
#[ignore = "needs root"]
fn the_callers_options_are_added_to_the_drivers() {
    let (_store, graph) = store(&["mountopt=nodev,noexec,metacopy=on"]);
    let (flags, parameters) = seen(&graph, &MountOptions::default());
    assert!(has(&flags, "nodev") && has(&flags, "noexec") && has(&flags, "rw"), "{flags}");
    assert!(has(&parameters, "metacopy=on"), "{parameters}");
    let (flags, parameters) = seen(&graph, &with(&["ro", "exec"]));
    assert!(has(&flags, "nodev") && has(&flags, "ro") && !has(&flags, "noexec"), "{flags}");
    assert!(has(&parameters, "metacopy=on"), "{parameters}");
    let (_, parameters) = seen(&graph, &with(&["metacopy=off", "volatile"]));
    assert!(
        !has(&parameters, "metacopy=on")
            && (has(&parameters, "volatile") || has(&parameters, "fsync=volatile")),
        "{parameters}"
    );
    // The caller who wants nothing written gets that, whatever else he says.
    let (flags, _) = seen(&graph, &MountOptions { read_only: true, ..with(&["rw"]) });
    assert!(has(&flags, "ro"), "{flags}");
}

#[test]
#[ignore = "needs root"]
fn what_goes_against_the_rules_is_told_when_the_home_is_opened_or_mounted() {
    let (_store, graph) = store(&["mountopt=metacopy=on"]);
    for (option, part) in [
        ("redirect_dir=off", "metacopy=on and redirect_dir=off exclude each other"),
        ("upperdir=/etc", "the layers are the driver's business"),
    ] {
        let error = graph.mount(&id("child"), &with(&[option])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
    let store = Store::new();
    let error = store.try_open(&["mountopt=metacopy=on,redirect_dir=nofollow"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
}

#[test]
#[ignore = "needs root"]
fn changed_metadata_without_contents_is_a_whole_file_in_a_diff() {
    let (store, graph) = store(&["mountopt=metacopy=on"]);
    let mount = graph.mount(&id("base"), &MountOptions::default()).unwrap();
    fs::write(mount.path().join("file"), vec![b'x'; 100_000]).unwrap();
    mount.unmount().unwrap();
    let mount = graph.mount(&id("child"), &MountOptions::default()).unwrap();
    let file = mount.path().join("file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    mount.unmount().unwrap();
    let upper = store.home().join("child/diff/file");
    assert_eq!(fs::metadata(&upper).unwrap().len(), 100_000);
    assert_eq!(std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&upper).unwrap()), 0, "metadata only");
    let diff = graph.diff(&id("child"), Some(&id("base")), &IdMaps::default()).unwrap();
    let mut archive = tar::Archive::new(diff);
    let mut entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut contents = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut contents).unwrap();
        (entry.path().unwrap().display().to_string(), entry.header().mode().unwrap() & 0o7777, contents)
    });
    let (_, mode, contents) = entries.find(|(path, ..)| path == "file").unwrap();
    assert_eq!(mode, 0o600);
    assert!(contents == vec![b'x'; 100_000], "{} bytes", contents.len());
}

#[test]
#[ignore = "needs root"]
fn a_second_opening_tries_no_mounts() {
    let store = Store::new();
    let graph = store.open();
    let file = store.dir().join("run/overlay/.probed.json");
    let first = fs::read(&file).unwrap();
    let features = graph.features();
    assert!(features.iter().any(|feature| feature.name() == "metacopy"), "{features:?}");
    let complete = fs::read(&file).unwrap();
    assert_ne!(first, complete, "what was tried for the list is remembered too");
    // A finding of this process would take the place of the one that is made up.
    let text = String::from_utf8(complete.clone()).unwrap();
    let made_up = text.replace("\"redirect_dir\":\"on\"", "\"redirect_dir\":{\"off\":\"made up\"}");
    assert_ne!(text, made_up);
    fs::write(&file, &made_up).unwrap();
    let reason = |graph: &Graph| {
        let features = graph.features();
        let found = features.iter().find(|feature| feature.name() == "redirect_dir").unwrap();
        found.reason().map(str::to_owned)
    };
    assert_eq!(reason(&store.open()).as_deref(), Some("made up"));
    for damaged in ["", "{", &made_up.replace("\"boot\":\"", "\"boot\":\"x")] {
        fs::write(&file, damaged).unwrap();
        assert_eq!(reason(&store.open()), None, "{damaged:?}");
    }
}
