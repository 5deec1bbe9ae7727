//! Homes of the Go drivers, on a kernel that need not know AUFS: everything but mounts of layers with others below them.

#![allow(clippy::unwrap_used, reason = "a test helper that fails fails the test")]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use graphdriver_aufs::Aufs;
use graphdriver_core::{
    CreateOptions, DriverHome, ErrorKind, Graph, IdMaps, LayerApplyOptions, LayerId, MountOptions,
    OpenOptions, Quota, Remedy,
};

fn id(text: &str) -> LayerId {
    text.parse().unwrap()
}

/// A root with a home of the layout that the Go drivers document: a base, a layer that changes, deletes and hides, and a container's on it.
struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self { dir: tempfile::tempdir().unwrap() };
        fixture.layer(
            "base",
            &[],
            &[("etc/motd", "base"), ("etc/gone", "gone"), ("old/a", "a"), ("old/b", "b")],
        );
        fixture.layer(
            "image",
            &["base"],
            &[
                ("etc/motd", "image"),
                ("etc/.wh.gone", ""),
                ("old/.wh..wh..opq", ""),
                ("old/c", "c"),
                (".wh..wh.aufs", ""),
            ],
        );
        fixture.layer("container", &["image", "base"], &[("new", "new"), (".wh..wh.orph/x", "")]);
        fixture
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("root/aufs")
    }

    fn layer(&self, name: &str, below: &[&str], files: &[(&str, &str)]) {
        for dir in ["layers", "diff", "mnt"] {
            fs::create_dir_all(self.home().join(dir)).unwrap();
        }
        for (path, contents) in files {
            let path = self.home().join("diff").join(name).join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, contents).unwrap();
        }
        fs::create_dir_all(self.home().join("mnt").join(name)).unwrap();
        let lines: Vec<String> = below.iter().map(|id| format!("{id}\n")).collect();
        fs::write(self.home().join("layers").join(name), lines.concat()).unwrap();
    }

    fn place(&self) -> DriverHome {
        let options = OpenOptions::new(self.dir.path().join("root"), self.dir.path().join("run"));
        DriverHome::new("aufs", &options).unwrap()
    }

    fn open(&self) -> Graph {
        Graph::new(std::sync::Arc::new(Aufs::open(&self.place()).unwrap()))
    }
}

fn archive(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, contents) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, contents.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn changes(graph: &Graph, layer: &str, base: Option<&str>) -> Vec<String> {
    let base = base.map(id);
    graph.changes(&id(layer), base.as_ref()).unwrap().iter().map(ToString::to_string).collect()
}

fn names(graph: &Graph, layer: &str, base: Option<&str>) -> Vec<String> {
    let base = base.map(id);
    let mut diff = graph.diff(&id(layer), base.as_ref(), &IdMaps::default()).unwrap();
    let mut bytes = Vec::new();
    diff.read_to_end(&mut bytes).unwrap();
    diff.finish().unwrap();
    let mut archive = tar::Archive::new(&bytes[..]);
    let entries = archive.entries().unwrap();
    entries.map(|entry| entry.unwrap().path().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn layers_are_found_and_compared() {
    let fixture = Fixture::new();
    let graph = fixture.open();
    assert_eq!(graph.layers().unwrap(), ["base", "container", "image"].map(id));
    assert_eq!(graph.parent(&id("container")).unwrap(), Some(id("image")));
    assert_eq!(graph.parent(&id("base")).unwrap(), None);
    assert!(!graph.exists(&id("missing")).unwrap());
    assert_eq!(changes(&graph, "container", Some("image")), ["A /new"]);
    let image = changes(&graph, "image", Some("base"));
    for change in ["C /etc/motd", "D /etc/gone", "D /old/a", "D /old/b", "A /old/c"] {
        assert!(
            image.contains(&change.to_owned()) || image.iter().any(|it| it == "C /old" || it == "D /old"),
            "{change} is not in {image:?}"
        );
    }
    assert!(
        image.contains(&"D /etc/gone".to_owned()) && image.contains(&"C /etc/motd".to_owned()),
        "{image:?}"
    );
    let names = names(&graph, "image", Some("base"));
    for name in ["etc/motd", "etc/.wh.gone", "old/.wh..wh..opq", "old/c"] {
        assert!(names.contains(&name.to_owned()), "{name} is not in {names:?}");
    }
    assert!(!names.iter().any(|name| name.contains(".wh..wh.aufs")), "{names:?}");
    assert_eq!(graph.diff_size(&id("container"), Some(&id("image"))).unwrap(), 3);
    let all = changes(&graph, "container", None);
    assert!(all.contains(&"A /old/c".to_owned()) && !all.contains(&"A /old/a".to_owned()), "{all:?}");
    let read = |layer: &str, path: &str| {
        graph.open_file(&id(layer), Path::new(path)).map(|mut file| {
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            text
        })
    };
    assert_eq!(read("container", "etc/motd").unwrap(), "image");
    assert_eq!(read("container", "old/c").unwrap(), "c");
    assert!(read("container", "etc/gone").is_err() && read("container", "old/a").is_err());
    let status = graph.status().unwrap();
    let keys: Vec<&str> = status.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["Root Dir", "Backing Filesystem", "Dirs", "Dirperm1 Supported"]);
    assert_eq!(status[2].1, "3");
    assert_eq!(graph.check(false).unwrap(), []);
}

#[test]
fn leftovers_of_the_go_drivers_go() {
    let fixture = Fixture::new();
    for dir in ["layers", "diff", "mnt"] {
        fs::create_dir_all(fixture.home().join(dir).join("123-removing/with/files")).unwrap();
    }
    let graph = fixture.open();
    for dir in ["layers", "diff", "mnt"] {
        assert!(!fixture.home().join(dir).join("123-removing").exists(), "{dir}");
    }
    // What somebody may still want is told.
    fs::create_dir(fixture.home().join("diff/half-made")).unwrap();
    fs::write(fixture.home().join("layers/image"), "../base\n").unwrap();
    let problems = graph.check(true).unwrap();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems.iter().all(|problem| matches!(problem.remedy, Remedy::Manual(_))));
}

#[test]
fn a_home_without_layers_takes_aufs_in_the_kernel() {
    let listed = fs::read_to_string("/proc/filesystems").unwrap();
    if listed.lines().any(|line| line.ends_with("\taufs")) {
        return Aufs::open(&Fixture { dir: tempfile::tempdir().unwrap() }.place()).map(drop).unwrap();
    }
    let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
    let error = Aufs::open(&fixture.place()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSupported, "{}", error.report());
    assert!(error.to_string().contains("AUFS was not found in /proc/filesystems"), "{error}");
    assert!(!fixture.home().exists());
}

#[test]
#[ignore = "needs root"]
fn layers_are_made_filled_and_removed() {
    let fixture = Fixture::new();
    let graph = fixture.open();
    let apply = LayerApplyOptions::default();
    let tar = archive(&[("etc/motd", "filled"), ("etc/.wh.gone", ""), ("dir/file", "file")]);
    let applied = graph.create_filled(&id("filled"), &CreateOptions::on(&id("image")), &mut &tar[..], &apply);
    assert_eq!(applied.unwrap().entries, 3);
    let lines = fs::read_to_string(fixture.home().join("layers/filled")).unwrap();
    assert_eq!(lines, "image\nbase\n");
    for path in ["diff/filled/etc/.wh.gone", "diff/filled/dir/file", "mnt/filled"] {
        assert!(fixture.home().join(path).exists(), "{path}");
    }
    // One that is made first and filled then.
    graph.create(&id("later"), &CreateOptions::on(&id("image"))).unwrap();
    graph.apply(&id("later"), &mut &tar[..], &apply).unwrap();
    assert_eq!(changes(&graph, "later", Some("image")), changes(&graph, "filled", Some("image")));
    let limited = CreateOptions {
        quota: Quota { bytes: Some(1 << 20), inodes: None },
        kind: graphdriver_core::LayerKind::ReadWrite,
        ..CreateOptions::on(&id("image"))
    };
    assert_eq!(graph.create(&id("limited"), &limited).unwrap_err().kind(), ErrorKind::NotSupported);
    let orphan = graph.create(&id("orphan"), &CreateOptions::on(&id("missing"))).unwrap_err();
    assert_eq!(orphan.kind(), ErrorKind::ParentUnknown);
    assert_eq!(graph.remove(&id("image")).unwrap_err().kind(), ErrorKind::LayerInUse);
    for layer in ["filled", "later", "container", "image", "base"] {
        graph.remove(&id(layer)).unwrap();
    }
    for dir in ["layers", "diff", "mnt", "tempdirs"] {
        assert_eq!(fs::read_dir(fixture.home().join(dir)).unwrap().count(), 0, "{dir}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_base_layer_is_mounted_without_aufs() {
    let fixture = Fixture::new();
    let graph = fixture.open();
    let mount = graph.mount(&id("base"), &MountOptions::read_only()).unwrap();
    assert_eq!(fs::read_to_string(mount.path().join("etc/motd")).unwrap(), "base");
    let refused = fs::write(mount.path().join("new"), "").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    assert_eq!(graph.remove(&id("base")).unwrap_err().kind(), ErrorKind::LayerInUse);
    mount.unmount().unwrap();
    let mount = graph.mount(&id("base"), &MountOptions::default()).unwrap();
    fs::write(mount.path().join("new"), "").unwrap();
    mount.unmount().unwrap();
    assert!(fixture.home().join("diff/base/new").exists());
    if graph.features().iter().all(graphdriver_core::Feature::is_on) {
        return;
    }
    let error = graph.mount(&id("image"), &MountOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSupported, "{}", error.report());
    // The failure has left nothing that stands in the way.
    graph.remove(&id("container")).unwrap();
    graph.remove(&id("image")).unwrap();
}
