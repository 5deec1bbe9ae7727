//! What a home holds on disk, and homes that others have been at.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graphdriver_core::{
    CreateOptions, DriverHome, ErrorKind, Graph, LayerId, LayerKind, MountOptions, OpenOptions, Quota,
    Registry,
};
use graphdriver_vfs::{DRIVER, Vfs};

struct Fixture {
    dir: tempfile::TempDir,
    graph: Graph,
}

fn id(text: &str) -> LayerId {
    text.parse().unwrap()
}

fn open(dir: &Path, options: &[&str]) -> graphdriver_core::Result<Graph> {
    let options = options.iter().map(|text| text.parse().unwrap());
    let place = OpenOptions::new(dir.join("root"), dir.join("run")).with_options(options);
    Ok(Graph::new(Arc::new(Vfs::open(&DriverHome::new("vfs", &place)?)?)))
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let graph = open(dir.path(), &[]).unwrap();
        Self { dir, graph }
    }

    fn home(&self, path: &str) -> PathBuf {
        self.dir.path().join("root/vfs").join(path)
    }

    /// A layer with one file, and a child of it.
    fn with_child() -> Self {
        let fixture = Self::new();
        fixture.graph.create(&id("base"), &CreateOptions::default()).unwrap();
        fixture.write("base", "file", "first");
        fixture.graph.create(&id("child"), &CreateOptions::on(&id("base"))).unwrap();
        fixture
    }

    fn write(&self, layer: &str, file: &str, contents: &str) {
        let mount = self.graph.mount(&id(layer), &MountOptions::default()).unwrap();
        // Also as an ordinary user.
        fs::set_permissions(mount.path(), Permissions::from_mode(0o755)).unwrap();
        fs::write(mount.path().join(file), contents).unwrap();
        mount.unmount().unwrap();
    }

    fn changes(&self, layer: &str, base: &str) -> Vec<String> {
        let changes = self.graph.changes(&id(layer), Some(&id(base))).unwrap();
        changes.iter().map(ToString::to_string).collect()
    }
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn layers_are_where_the_go_drivers_have_them() {
    let fixture = Fixture::with_child();
    assert_eq!(names(&fixture.home("dir")), ["base", "child"]);
    assert_eq!(fs::read(fixture.home("dir/child/file")).unwrap(), b"first");
    assert_eq!(names(&fixture.home("tempdirs")), [""; 0]);
    assert_eq!(names(&fixture.home("parents")), ["child"]);
    let note = fs::read_to_string(fixture.home("parents/child")).unwrap();
    assert!(note.starts_with("base\ncopied ") && note.ends_with('\n'), "{note:?}");
    assert_eq!([mode(&fixture.home("dir")), mode(&fixture.home("parents"))], [0o700; 2]);
    let metadata = fixture.graph.metadata(&id("child")).unwrap();
    assert_eq!(metadata.get("Dir").map(Path::new), Some(fixture.home("dir/child").as_path()));
}

#[test]
fn layers_of_other_programs_can_be_used() {
    let fixture = Fixture::with_child();
    // As podman makes one: a directory, and nothing that names its parent.
    fs::create_dir(fixture.home("dir/foreign")).unwrap();
    fs::write(fixture.home("dir/foreign/file"), "other").unwrap();
    fs::create_dir(fixture.home("dir/.not a layer")).unwrap();
    fs::write(fixture.home("dir/file"), "").unwrap();
    assert_eq!(fixture.graph.layers().unwrap(), ["base", "child", "foreign"].map(id));
    assert!(!fixture.graph.exists(&id("file")).unwrap());
    assert_eq!(fixture.graph.parent(&id("foreign")).unwrap(), None);
    assert!(fixture.changes("foreign", "base").contains(&"C /file".to_owned()));
    fixture.graph.create(&id("on-foreign"), &CreateOptions::on(&id("foreign"))).unwrap();
    assert_eq!(fixture.changes("on-foreign", "foreign"), [""; 0]);
    fixture.graph.remove(&id("on-foreign")).unwrap();
    fixture.graph.remove(&id("foreign")).unwrap();
}

#[test]
fn a_note_without_its_layer_means_nothing() {
    let fixture = Fixture::with_child();
    // Another program removes the child, which it can without knowing of the note.
    fs::rename(fixture.home("dir/child"), fixture.dir.path().join("gone")).unwrap();
    fixture.graph.create(&id("other"), &CreateOptions::default()).unwrap();
    fs::copy(fixture.home("parents/child"), fixture.home("parents/other")).unwrap();
    fixture.graph.remove(&id("other")).unwrap();
    fixture.graph.create(&id("other"), &CreateOptions::default()).unwrap();
    assert_eq!(fixture.graph.parent(&id("other")).unwrap(), None, "the note of the old layer went with it");
    fixture.graph.create(&id("child"), &CreateOptions::default()).unwrap();
    assert_eq!(fixture.graph.parent(&id("child")).unwrap(), None, "a new layer has no old note");
    fixture.graph.remove(&id("child")).unwrap();
    fs::write(fixture.home("parents/stray"), "base\ncopied 1.000000000\n").unwrap();
    fixture.graph.cleanup().unwrap();
    assert_eq!(names(&fixture.home("parents")), [""; 0]);
    fixture.graph.remove(&id("base")).unwrap();
}

#[test]
fn a_note_that_is_none_is_passed_over() {
    let fixture = Fixture::with_child();
    for text in ["", "base", "base\ncopied yesterday\n", "../../etc\ncopied 1.000000000\n"] {
        fs::write(fixture.home("parents/child"), text).unwrap();
        assert_eq!(fixture.graph.parent(&id("child")).unwrap(), None, "{text:?}");
        assert_eq!(fixture.changes("child", "base"), [""; 0]);
    }
}

/// A backup or a move by a tool that keeps the times of files, but has to make new ones.
#[test]
fn no_edit_is_missed_in_a_copied_home() {
    let fixture = Fixture::with_child();
    let file = fixture.home("dir/child/file");
    let time = file.metadata().unwrap().modified().unwrap();
    let copied = tempfile::tempdir().unwrap();
    let [from, to] = [fixture.dir.path(), copied.path()].map(|dir| dir.join("root"));
    fs::write(&file, "other").unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    let status = std::process::Command::new("cp").arg("-a").args([&from, &to]).status().unwrap();
    assert!(status.success());
    let graph = open(copied.path(), &[]).unwrap();
    assert_eq!(graph.parent(&id("child")).unwrap(), Some(id("base")));
    let changes = graph.changes(&id("child"), Some(&id("base"))).unwrap();
    assert_eq!(changes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["C /file"]);
}

#[test]
fn a_layer_stays_while_its_diff_is_read() {
    let fixture = Fixture::with_child();
    for index in 0..50 {
        fixture.write("child", &format!("file-{index}"), &"x".repeat(10_000));
    }
    let mut diff =
        fixture.graph.diff(&id("child"), Some(&id("base")), &graphdriver_core::IdMaps::default()).unwrap();
    diff.read_exact(&mut [0; 512]).unwrap();
    assert_eq!(fixture.graph.remove(&id("child")).unwrap_err().kind(), ErrorKind::LayerInUse);
    let mut rest = Vec::new();
    diff.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > 500_000);
    diff.finish().unwrap();
    fixture.graph.remove(&id("child")).unwrap();
}

#[test]
fn what_the_driver_cannot_do_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for (option, part) in [
        ("vfs.sise=1g", "known options are: ignore_chown_errors, inodes, size"),
        ("vfs.mountopt=nodev", "vfs driver does not support mount options"),
    ] {
        let error = open(dir.path(), &[option]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(names(dir.path()), [""; 0], "nothing is made before the options are known to be right");
    let graph = open(dir.path(), &["overlay.whatever=1", "vfs.ignore_chown_errors=true"]).unwrap();
    let quota = Quota { bytes: None, inodes: Some(10) };
    let limited = CreateOptions { quota, kind: LayerKind::ReadWrite, ..CreateOptions::default() };
    assert_eq!(graph.create(&id("layer"), &limited).unwrap_err().kind(), ErrorKind::NotSupported);
    graph.create(&id("layer"), &CreateOptions::default()).unwrap();
    let mount = |option: &str| {
        let options = MountOptions { extra: vec![option.to_owned()], ..MountOptions::default() };
        graph.mount(&id("layer"), &options)
    };
    mount("ro").unwrap().unmount().unwrap();
    let error = mount("nodev").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("vfs driver does not support mount options"), "{error}");
}

#[test]
fn the_registry_opens_it_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let mut registry = Registry::new();
    registry.register(DRIVER).unwrap();
    let options = OpenOptions::new(dir.path().join("root"), dir.path().join("run"));
    registry.probe("vfs", &options).unwrap();
    assert!(!dir.path().join("root").exists(), "asking makes nothing");
    let driver = registry.open("vfs", &options).unwrap();
    assert_eq!(driver.name(), "vfs");
    assert!(dir.path().join("root/vfs/dir").is_dir());
}
