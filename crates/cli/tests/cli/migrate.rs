//! `migrate`: the layers of one driver become another's.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::store::{Entry, PROGRAM, tar};

/// A root of its own, in which drivers are named by each command.
struct Root {
    dir: tempfile::TempDir,
}

impl Root {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("--root").arg(self.path("root")).arg("--run-root").arg(self.path("run"));
        command.args(words).stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{words:?}: {}{said}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// An image of `count` layers on one another, and a second one on the first of them.
    fn fill(&self, driver: &str, count: usize) {
        let base = tar(&[
            Entry::Dir("etc/"),
            Entry::File("etc/motd", "base"),
            Entry::File("etc/gone", "base"),
            Entry::Link("etc/link", "etc/motd"),
        ]);
        self.apply(driver, "layer-0", None, &base);
        for number in 1..count {
            let (id, parent) = (format!("layer-{number}"), format!("layer-{}", number - 1));
            let file = format!("file-{number}");
            let archive = tar(&[
                Entry::File(&file, &"contents ".repeat(2000)),
                Entry::File("etc/motd", &id),
                Entry::File(if number == 1 { "etc/.wh.gone" } else { "etc/new" }, ""),
            ]);
            self.apply(driver, &id, Some(&parent), &archive);
        }
        self.apply(driver, "other", Some("layer-0"), &tar(&[Entry::File("other", "other")]));
    }

    fn apply(&self, driver: &str, id: &str, parent: Option<&str>, archive: &[u8]) {
        let path = self.path("layer.tar");
        fs::write(&path, archive).unwrap();
        let mut words = vec!["--driver", driver, "apply", id, path.to_str().unwrap()];
        words.extend(parent.iter().flat_map(|parent| ["--parent", parent]));
        self.ok(&words);
    }

    fn layers(&self, driver: &str) -> Vec<String> {
        self.ok(&["--driver", driver, "list"]).lines().map(str::to_owned).collect()
    }

    /// Each layer's parent and all that it shows.
    fn shown(&self, driver: &str) -> BTreeMap<String, (String, BTreeMap<PathBuf, String>)> {
        let json = self.ok(&["--driver", driver, "list", "--json"]);
        let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
        let show = |row: &serde_json::Value| {
            let id = row["id"].as_str().unwrap();
            let mounted = self.ok(&["--driver", driver, "mount", "--ro", id]);
            let mut files = BTreeMap::new();
            read(Path::new(mounted.trim_end()), Path::new(""), &mut files);
            self.ok(&["--driver", driver, "unmount", id]);
            (id.to_owned(), (row["parent"].to_string(), files))
        };
        rows.as_array().unwrap().iter().map(show).collect()
    }
}

/// What can be said of each file, in one line.
fn read(root: &Path, dir: &Path, files: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(root.join(dir)).unwrap() {
        let path = dir.join(entry.unwrap().file_name());
        let metadata = fs::symlink_metadata(root.join(&path)).unwrap();
        let contents = if metadata.is_file() { fs::read(root.join(&path)).unwrap() } else { Vec::new() };
        let (mode, owner) = (metadata.mode(), (metadata.uid(), metadata.gid()));
        let time = (metadata.mtime(), metadata.mtime_nsec());
        files.insert(
            path.clone(),
            format!("{mode:o} {owner:?} {time:?} {:?}", String::from_utf8_lossy(&contents)),
        );
        if metadata.is_dir() {
            read(root, &path, files);
        }
    }
}

#[test]
#[ignore = "needs root"]
fn every_driver_gets_every_others_layers() {
    for (from, to) in [
        ("vfs", "overlay"),
        ("overlay", "vfs"),
        ("overlay-hardlink", "overlay"),
        ("overlay-hardlink", "vfs"),
        ("overlay", "overlay-hardlink"),
        ("vfs", "overlay2"),
    ] {
        let root = Root::new();
        root.fill(from, 4);
        let expected = root.shown(from);
        let preview = root.ok(&["migrate", "--from", from, "--to", to, "--dry-run"]);
        assert!(preview.ends_with(&format!("5 layers of {from} to {to}: 5 to move\n")), "{preview}");
        assert!(!root.path("root").join(to).exists(), "{from} to {to}: a dry run makes nothing");
        let said = root.ok(&["migrate", "--from", from, "--to", to]);
        assert_eq!(said, format!("5 layers of {from} to {to}: 5 moved\n"));
        assert_eq!(root.shown(to), expected, "{from} to {to}");
        let said = root.ok(&["migrate", "--from", from, "--to", to, "--remove-source"]);
        assert_eq!(said, format!("5 layers of {from} to {to}: 5 there already, source removed\n"));
        assert!(!root.path("root").join(from).exists(), "{from} to {to}");
        assert_eq!(root.shown(to), expected, "{from} to {to}");
        // Nothing is left that stands in the way of choosing the driver.
        root.ok(&["check"]);
    }
}

/// Whether or not the kernel has AUFS: all that the layers show is on the disk.
#[cfg(feature = "aufs")]
#[test]
#[ignore = "needs root"]
fn layers_of_aufs_are_moved_on_every_kernel() {
    let root = Root::new();
    let home = root.path("root/aufs");
    let write = |path: &str, contents: &str| {
        let path = home.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    };
    for (path, contents) in [
        ("layers/base", ""),
        ("diff/base/dir/gone", "of base"),
        ("diff/base/dir/kept", "of base"),
        ("diff/base/replaced/hidden", "of base"),
        ("layers/top", "middle\nbase\n"),
        ("layers/middle", "base\n"),
        ("diff/middle/dir/.wh.gone", ""),
        ("diff/middle/.wh..wh.plnk/of-aufs", ""),
        ("diff/middle/replaced/.wh..wh..opq", ""),
        ("diff/middle/replaced/new", "of middle"),
        ("diff/top/dir/kept", "of top"),
    ] {
        write(path, contents);
    }
    let said = root.ok(&["migrate", "--from", "aufs", "--to", "overlay", "--remove-source"]);
    assert_eq!(said, "3 layers of aufs to overlay: 3 moved, source removed\n");
    assert!(!home.exists());
    let shown = root.shown("overlay");
    let (parent, files) = &shown["top"];
    assert_eq!(parent, "\"middle\"");
    let contents: Vec<_> = files.iter().map(|(path, line)| (path.to_str().unwrap(), line)).collect();
    let names: Vec<_> = contents.iter().map(|(path, _)| *path).collect();
    assert_eq!(names, ["dir", "dir/kept", "replaced", "replaced/new"]);
    assert!(
        contents[1].1.ends_with("\"of top\"") && contents[3].1.ends_with("\"of middle\""),
        "{contents:?}"
    );
    assert_eq!(shown["base"].1.len(), 5, "{shown:?}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let root = Root::new();
    fs::create_dir(root.path("root")).unwrap();
    for (words, part) in [
        (["migrate", "--from", "vfs", "--to", "vfs"], "both drivers are vfs"),
        (["migrate", "--from", "vfs", "--to", "overlay"], "none of vfs"),
    ] {
        let output = root.run(&words);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(fs::read_dir(root.path("root")).unwrap().count(), 0, "a driver that is not there is not made");
}

#[test]
#[ignore = "needs root"]
fn what_cannot_be_moved_is_told_and_the_rest_moves() {
    let root = Root::new();
    root.fill("overlay", 3);
    // No layer any more, but the one below another.
    let diff = root.path("root/overlay/layer-1/diff");
    fs::rename(&diff, root.path("diff")).unwrap();
    fs::write(&diff, "").unwrap();
    let output = root.run(&["migrate", "--from", "overlay", "--to", "vfs", "--remove-source", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["source_removed"], false);
    let states: BTreeMap<&str, &str> = report["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["id"].as_str().unwrap(), row["state"].as_str().unwrap()))
        .collect();
    assert_eq!(states.get("layer-0"), Some(&"moved"), "{states:?}");
    assert_eq!(states.get("other"), Some(&"moved"), "{states:?}");
    assert_eq!(states.get("layer-2"), Some(&"failed"), "{states:?}");
    assert!(root.layers("overlay").contains(&"layer-0".to_owned()), "nothing is removed");
}

/// Somebody made a layer of the same name in the destination, or edited one that was moved.
#[test]
#[ignore = "needs root"]
fn a_stranger_is_left_alone() {
    let root = Root::new();
    root.fill("vfs", 2);
    root.apply("overlay", "layer-0", None, &tar(&[Entry::File("stranger", "")]));
    let strangers = root.shown("overlay");
    let migrate = ["--quiet", "migrate", "--from", "vfs", "--to", "overlay"];
    let output = root.run(&migrate);
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("layer-0") && message.contains("another layer of this id"), "{message}");
    assert_eq!(root.shown("overlay")["layer-0"], strangers["layer-0"]);
    root.ok(&["--driver", "overlay", "remove", "layer-0"]);
    root.ok(&migrate);
    assert_eq!(root.shown("overlay"), root.shown("vfs"));
}

/// Killed at whatever moment, it is finished by the next one, and the source is whole until all is there.
#[test]
#[ignore = "needs root"]
fn killed_and_started_again() {
    const LAYERS: usize = 6;
    let root = Root::new();
    root.fill("overlay-hardlink", LAYERS);
    let expected = root.shown("overlay-hardlink");
    let words = ["--quiet", "migrate", "--from", "overlay-hardlink", "--to", "overlay"];
    let begin = std::time::Instant::now();
    root.ok(&words);
    let whole = begin.elapsed();
    for round in 0..20_u32 {
        fs::rename(root.path("root/overlay"), root.path(&format!("moved-{round}"))).unwrap();
        let mut killed = root.command(&words).stdout(Stdio::null()).spawn().unwrap();
        // From before anything is done until after all of it, most likely; whatever is hit, it has to be right.
        std::thread::sleep(whole * round / 20 + Duration::from_millis(u64::from(round)));
        killed.kill().unwrap();
        killed.wait().unwrap();
        assert_eq!(root.layers("overlay-hardlink").len(), LAYERS + 1, "round {round}");
        root.ok(&words);
        assert_eq!(root.shown("overlay"), expected, "round {round}");
        root.ok(&["--driver", "overlay", "check"]);
    }
    // Killed while the source is removed.
    let words = [&words[..], &["--remove-source"]].concat();
    let mut killed = root.command(&words).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(whole / 2);
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(root.shown("overlay"), expected);
    let again = root.run(&words);
    // All of it may have been done already.
    let nothing_left = again.status.code() == Some(2);
    assert!(again.status.success() || nothing_left, "{}", String::from_utf8_lossy(&again.stderr));
    assert!(!root.path("root/overlay-hardlink").exists());
    assert_eq!(root.shown("overlay"), expected);
}
