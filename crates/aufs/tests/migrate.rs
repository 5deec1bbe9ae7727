//! Layers from before Docker 0.7.

#![allow(clippy::unwrap_used, reason = "a test helper that fails fails the test")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use graphdriver_aufs::{Aufs, Migrated};
use graphdriver_core::{Driver, DriverHome, Error, ErrorKind, LayerId, OpenOptions};

fn id(text: &str) -> LayerId {
    text.parse().unwrap()
}

/// A root as Docker 0.6 left it: three images on one another, a container on the top one, and another that was never written to.
struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self { dir: tempfile::tempdir().unwrap() };
        // So named that parents are not the first in any order of names.
        fixture.image("m-base", None);
        fixture.image("z-middle", Some("m-base"));
        fixture.image("a-top", Some("z-middle"));
        fixture.write(
            "containers/c1/config.json",
            r#"{"ID": "c1", "Image": "a-top", "Created": "2013-10-01T00:00:00Z"}"#,
        );
        fixture.write("containers/c1/rw/written", "by the container");
        fixture.write("containers/c1/rw/.wh.m-base", "");
        fixture.write("containers/c2/config.json", r#"{"ID": "c2", "Image": "a-top"}"#);
        fixture.write("repositories", "{}");
        fixture
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Gives a file of the root its place in the home.
    fn rename(&self, from: &str, to: &str) {
        let to = self.root().join("aufs").join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::rename(self.root().join(from), to).unwrap();
    }

    fn image(&self, id: &str, parent: Option<&str>) {
        let parent = parent.map(|parent| format!(r#", "parent": "{parent}""#)).unwrap_or_default();
        self.write(&format!("graph/{id}/json"), &format!(r#"{{"id": "{id}"{parent}, "os": "linux"}}"#));
        self.write(&format!("graph/{id}/layer/{id}"), id);
    }

    fn open(&self) -> Aufs {
        let options = OpenOptions::new(self.root(), self.dir.path().join("run"));
        Aufs::open(&DriverHome::new("aufs", &options).unwrap()).unwrap()
    }

    fn migrate(&self) -> Result<Migrated, Error> {
        self.open().migrate(&self.root(), |init| {
            fs::write(init.join("set-up"), "").map_err(|error| Error::io("write", init, error))
        })
    }

    #[track_caller]
    fn assert_migrated(&self) {
        let driver = self.open();
        assert_eq!(driver.layers().unwrap(), ["a-top", "c1", "c1-init", "m-base", "z-middle"].map(id));
        let read = |path: &str| fs::read_to_string(self.root().join("aufs").join(path)).unwrap();
        for (layer, lines) in [
            ("m-base", ""),
            ("z-middle", "m-base\n"),
            ("a-top", "z-middle\nm-base\n"),
            ("c1-init", "a-top\nz-middle\nm-base\n"),
            ("c1", "c1-init\na-top\nz-middle\nm-base\n"),
        ] {
            assert_eq!(read(&format!("layers/{layer}")), lines, "{layer}");
        }
        for layer in ["m-base", "z-middle", "a-top"] {
            assert_eq!(read(&format!("diff/{layer}/{layer}")), layer);
            assert!(!self.root().join("graph").join(layer).join("layer").exists());
        }
        assert_eq!(read("diff/c1/written"), "by the container");
        assert_eq!(read("diff/c1-init/set-up"), "");
        assert_eq!(fs::read_to_string(self.root().join("repositories-aufs")).unwrap(), "{}");
        let changes = graphdriver_core::Graph::new(std::sync::Arc::new(driver))
            .changes(&id("c1"), Some(&id("c1-init")))
            .unwrap();
        let changes: Vec<_> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(changes, ["D /m-base", "A /written"]);
    }
}

#[test]
#[ignore = "needs root"]
fn parents_first_and_once() {
    let fixture = Fixture::new();
    let migrated = fixture.migrate().unwrap();
    assert_eq!(migrated.images, ["m-base", "z-middle", "a-top"].map(id));
    assert_eq!(migrated.containers, [id("c1")]);
    fixture.assert_migrated();
    // Again is nothing, whatever has been set up meanwhile.
    fs::remove_file(fixture.root().join("aufs/diff/c1-init/set-up")).unwrap();
    assert_eq!(fixture.migrate().unwrap(), Migrated::default());
    fs::write(fixture.root().join("aufs/diff/c1-init/set-up"), "").unwrap();
    fixture.assert_migrated();
}

/// Each thing that is done to the disk may be the last one before the power goes.
#[test]
#[ignore = "needs root"]
fn from_wherever_it_was_interrupted() {
    let steps: [fn(&Fixture); 5] = [
        |fixture| fixture.rename("graph/m-base/layer", "diff/m-base"),
        |fixture| {
            fixture.rename("graph/m-base/layer", "diff/m-base");
            fs::create_dir_all(fixture.root().join("aufs/mnt/m-base")).unwrap();
        },
        |fixture| {
            fixture.rename("graph/m-base/layer", "diff/m-base");
            fixture.write("aufs/layers/m-base", "");
            fixture.rename("graph/z-middle/layer", "diff/z-middle");
        },
        |fixture| {
            fixture.migrate().unwrap();
            fs::remove_file(fixture.root().join("aufs/layers/c1")).unwrap();
            fs::remove_file(fixture.root().join("aufs/diff/c1-init/set-up")).unwrap();
        },
        |fixture| {
            fs::rename(fixture.root().join("repositories"), fixture.root().join("repositories-aufs"))
                .unwrap();
        },
    ];
    for (number, step) in steps.iter().enumerate() {
        let fixture = Fixture::new();
        step(&fixture);
        fixture.migrate().unwrap_or_else(|error| panic!("{number}: {}", error.report()));
        fixture.assert_migrated();
    }
}

#[test]
#[ignore = "needs root"]
fn what_cannot_be_renamed_is_linked() {
    let fixture = Fixture::new();
    // A directory of another file system.
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let graph = fixture.root().join("graph");
    let status =
        std::process::Command::new("cp").arg("-a").arg(&graph).arg(elsewhere.path()).status().unwrap();
    assert!(status.success());
    fs::rename(&graph, fixture.dir.path().join("graph-before")).unwrap();
    symlink(elsewhere.path().join("graph"), &graph).unwrap();
    fixture.migrate().unwrap();
    let branch = fixture.root().join("aufs/diff/m-base");
    let is_link = fs::symlink_metadata(&branch).unwrap().is_symlink();
    let is_other = device(elsewhere.path()) != device(&fixture.root());
    assert_eq!(is_link, is_other);
    assert_eq!(fs::read_to_string(branch.join("m-base")).unwrap(), "m-base");
    let changes = fixture.open().native_diff().unwrap().changes(&id("a-top"), None).unwrap().unwrap();
    assert_eq!(changes.len(), 3, "{changes:?}");
}

fn device(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::dev(&fs::metadata(path).unwrap())
}

#[test]
fn an_image_without_the_one_below_is_told() {
    let fixture = Fixture::new();
    fixture.image("orphan", Some("nowhere"));
    let error = fixture.migrate().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ParentUnknown, "{}", error.report());
    assert!(error.to_string().contains("nowhere"), "{error}");
    // It stays where it was, and what could be moved is.
    assert!(fixture.root().join("graph/orphan/layer/orphan").exists());
    assert!(fixture.open().exists(&id("m-base")).unwrap());
}

#[test]
fn images_below_themselves_are_told() {
    let fixture = Fixture::new();
    fixture.image("one", Some("other"));
    fixture.image("other", Some("one"));
    let error = fixture.migrate().unwrap_err();
    assert!(error.to_string().contains("below itself"), "{error}");
}
