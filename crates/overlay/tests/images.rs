//! Layers that are kept as images (`use_composefs`).
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graphdriver_core::{
    CreateOptions, DriverHome, ErrorKind, Graph, IdMap, IdMaps, LayerApplyOptions, LayerId, LayerKind,
    MountOptions, OpenOptions,
};
use graphdriver_overlay::{IdMapping, Overlay, OverlayTuning};
use tempfile::TempDir;

mod support;

use support::{BOTH_WAYS, id};

const OPTION: &str = "use_composefs=true";

/// A home on a tmpfs, whose files the kernel does not mount by itself, or on a disk, whose files it does from Linux 6.12.
struct Place(TempDir);

impl Place {
    fn each() -> [Self; 2] {
        ["/dev/shm", "/var/tmp"].map(|above| Self(tempfile::tempdir_in(above).unwrap()))
    }

    fn open(&self, options: &[&str], tuning: OverlayTuning) -> graphdriver_core::Result<Graph> {
        let options = options.iter().map(|option| option.parse().unwrap());
        let place =
            OpenOptions::new(self.0.path().join("root"), self.0.path().join("run")).with_options(options);
        let overlay = Overlay::open_with(&DriverHome::new("overlay", &place)?, tuning)?;
        Ok(Graph::new(Arc::new(overlay)))
    }

    fn layer(&self, name: &str) -> PathBuf {
        self.0.path().join("root/overlay").join(name)
    }

    /// Waits until nothing is mounted from here; the kernel ends mounts of a namespace that is gone in its own time.
    #[track_caller]
    fn assert_unused(&self) {
        for _ in 0..1000 {
            if !self.is_used() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("something stays mounted, or a device has a file still");
    }

    /// Whether something is mounted from here, or from a device that has a file here.
    fn is_used(&self) -> bool {
        let name = self.0.path().file_name().unwrap().to_str().unwrap();
        let devices = fs::read_dir("/sys/block").unwrap().map(|entry| entry.unwrap().path());
        let files = devices.filter_map(|device| fs::read_to_string(device.join("loop/backing_file")).ok());
        fs::read_to_string("/proc/self/mountinfo").unwrap().contains(name)
            || files.into_iter().any(|file| file.contains(name))
    }
}

fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, contents) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(contents.len() as u64);
        tar.append_data(&mut header, path, contents.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn fill(graph: &Graph, name: &str, parent: Option<&str>, files: &[(&str, &str)]) -> LayerId {
    let options = CreateOptions { parent: parent.map(id), ..CreateOptions::default() };
    graph.create_filled(&id(name), &options, &mut &*archive(files), &LayerApplyOptions::default()).unwrap();
    id(name)
}

/// Three layers, of which the second takes from the first, and the third can be written to.
fn fill_three(graph: &Graph) {
    fill(graph, "base", None, &[("dir/old", "old"), ("gone", "gone"), ("same", "equal"), ("too", "equal")]);
    fill(graph, "middle", Some("base"), &[(".wh.gone", ""), ("dir/.wh..wh..opq", ""), ("dir/new", "new")]);
    let writable = CreateOptions { kind: LayerKind::ReadWrite, ..CreateOptions::on(&id("middle")) };
    graph.create(&id("top"), &writable).unwrap();
}

fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()) {
            if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            } else {
                let contents = fs::read_to_string(entry.path()).unwrap();
                let path = entry.path().strip_prefix(root).unwrap().display().to_string();
                found.push(format!("{path}={contents}"));
            }
        }
    }
    found.sort_unstable();
    found
}

fn shown(graph: &Graph, name: &str) -> Vec<String> {
    let mount = graph.mount(&id(name), &MountOptions::default()).unwrap();
    let files = files(mount.path());
    mount.unmount().unwrap();
    files
}

fn changes(graph: &Graph, name: &str, base: Option<&str>) -> Vec<String> {
    let changes = graph.changes(&id(name), base.map(id).as_ref()).unwrap();
    changes.iter().map(ToString::to_string).collect()
}

fn diff(graph: &Graph, name: &str, base: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut diff = graph.diff(&id(name), Some(&id(base)), &IdMaps::default()).unwrap();
    diff.read_to_end(&mut bytes).unwrap();
    diff.finish().unwrap();
    bytes
}

#[test]
#[ignore = "needs root"]
fn layers_are_images_and_objects() {
    for place in Place::each() {
        let graph = place.open(&[OPTION], OverlayTuning::default()).unwrap();
        fill_three(&graph);
        let blob = place.layer("base/composefs-data/composefs.blob");
        assert_eq!(blob.parent().unwrap().metadata().unwrap().permissions().mode() & 0o7777, 0o700);
        assert_eq!(blob.metadata().unwrap().permissions().mode() & 0o7777, 0o644);
        // Each of the contents once, by its SHA-256.
        let objects = files(&place.layer("base/diff"));
        assert_eq!(objects.len(), 3);
        // echo -n gone | sha256sum
        let of_gone = "28/3bb9deef02e6843abfb538efa1eca70801bd8a701c3f98191e123496339247=gone".to_owned();
        assert!(objects.contains(&of_gone), "{objects:?}");
        assert_eq!(graph.usage(&id("base")).unwrap().bytes, 12 + blob.metadata().unwrap().len());
        assert!(!place.layer("top/composefs-data").exists());
        for name in ["top", "middle", "base"] {
            graph.remove(&id(name)).unwrap();
        }
        assert!(!place.layer("base").exists());
        place.assert_unused();
    }
}

#[test]
#[ignore = "needs root"]
fn images_are_mounted_in_every_way_and_nothing_stays() {
    for place in Place::each() {
        fill_three(&place.open(&[OPTION], OverlayTuning::default()).unwrap());
        for api in BOTH_WAYS {
            for how in [IdMapping::Detached, IdMapping::Namespace] {
                let mut tuning = OverlayTuning::default();
                (tuning.mount_api, tuning.id_mapping) = (Some(api), Some(how));
                // What is there is read without the option, too.
                let graph = place.open(&[], tuning).unwrap();
                assert_eq!(shown(&graph, "base"), ["dir/old=old", "gone=gone", "same=equal", "too=equal"]);
                assert_eq!(shown(&graph, "middle"), ["dir/new=new", "same=equal", "too=equal"]);
                let mount = graph.mount(&id("top"), &MountOptions::default()).unwrap();
                assert_eq!(files(mount.path()), ["dir/new=new", "same=equal", "too=equal"]);
                mount.unmount().unwrap();
                let ids = vec![IdMap { container_id: 0, host_id: 100_000, size: 1000 }];
                let maps = IdMaps::new(ids.clone(), ids).unwrap();
                let mount = graph.mount_detached(&id("middle"), &maps).unwrap();
                assert_eq!(files(&mount.path()), ["dir/new=new", "same=equal", "too=equal"]);
                drop(mount);
                place.assert_unused();
            }
        }
    }
}

#[test]
#[ignore = "needs root"]
fn what_is_written_above_is_a_layer_of_its_own() {
    for place in Place::each() {
        let graph = place.open(&[OPTION], OverlayTuning::default()).unwrap();
        fill_three(&graph);
        let mount = graph.mount(&id("top"), &MountOptions::default()).unwrap();
        // Changes of metadata copy no contents here, and renames leave a note.
        fs::set_permissions(mount.path().join("same"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(mount.path().join("dir"), mount.path().join("renamed")).unwrap();
        let file = fs::File::options().write(true).open(mount.path().join("too")).unwrap();
        file.write_all_at(b"E", 0).unwrap();
        drop(file);
        mount.unmount().unwrap();
        assert_eq!(
            changes(&graph, "top", Some("middle")),
            ["D /dir", "A /renamed", "A /renamed/new", "C /same", "C /too"]
        );
        let bytes = diff(&graph, "top", "middle");
        let options = CreateOptions::on(&id("middle"));
        graph.create_filled(&id("again"), &options, &mut &*bytes, &LayerApplyOptions::default()).unwrap();
        assert_eq!(shown(&graph, "again"), ["renamed/new=new", "same=equal", "too=Equal"]);
        assert_eq!(changes(&graph, "again", Some("middle")), changes(&graph, "top", Some("middle")));
        let getter = graph.driver().file_getter().unwrap();
        let mut contents = String::new();
        getter.open_file(&id("top"), Path::new("same")).unwrap().read_to_string(&mut contents).unwrap();
        assert_eq!(contents, "equal");
    }
}

#[test]
#[ignore = "needs root"]
fn an_image_is_only_read() {
    for place in Place::each() {
        let graph = place.open(&[OPTION], OverlayTuning::default()).unwrap();
        fill_three(&graph);
        let mount = graph.mount(&id("middle"), &MountOptions::default()).unwrap();
        let refused = fs::write(mount.path().join("new"), "").unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        mount.unmount().unwrap();
        graph.remove(&id("top")).unwrap();
        let applied =
            graph.apply(&id("middle"), &mut &*archive(&[("a", "b")]), &LayerApplyOptions::default());
        let refused = graph.update_layer_id_map(&id("middle"), &IdMaps::default(), &IdMaps::default());
        for error in [applied.unwrap_err(), refused.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.to_string().contains("kept as an image"), "{}", error.report());
        }
    }
}

/// mkcomposefs writes 256 whiteouts into the root, for the directories of objects, and marks it opaque, which the kernel does not heed there.
#[test]
#[ignore = "needs root"]
fn images_of_other_programs_hide_nothing_of_ours() {
    use graphdriver_archive::{RootDir, erofs};
    use nix::sys::stat::{Mode, SFlag, mknod};

    for place in Place::each() {
        let graph = place.open(&[OPTION], OverlayTuning::default()).unwrap();
        fill_three(&graph);
        fill(&graph, "foreign", Some("middle"), &[]);
        let [tree, objects] = ["tree", "objects"].map(|name| place.0.path().join(name));
        for dir in [&tree, &objects] {
            fs::create_dir(dir).unwrap();
        }
        for number in 0..=255_u8 {
            mknod(&tree.join(format!("{number:02x}")), SFlag::S_IFCHR, Mode::empty(), 0).unwrap();
        }
        fs::write(tree.join("file"), "contents").unwrap();
        let root = fs::File::open(&tree).unwrap();
        let opaque = c"trusted.overlay.opaque";
        graphdriver_sys::xattr::fset(&root, opaque, b"y", graphdriver_sys::xattr::SetFlags::empty()).unwrap();
        let mut image = Vec::new();
        let [tree, contents] = [&tree, &objects].map(|dir| RootDir::open(dir).unwrap());
        erofs::pack(&tree, &contents, &mut image).unwrap();
        // The version.
        image[4] = 0;
        fs::write(place.layer("foreign/composefs-data/composefs.blob"), image).unwrap();
        fs::remove_dir(place.layer("foreign/diff")).unwrap();
        fs::rename(objects, place.layer("foreign/diff")).unwrap();

        let graph = place.open(&[], OverlayTuning::default()).unwrap();
        assert_eq!(shown(&graph, "foreign"), ["dir/new=new", "file=contents", "same=equal", "too=equal"]);
        let changes = changes(&graph, "foreign", Some("middle"));
        assert!(changes.contains(&"A /file".to_owned()), "{changes:?}");
        assert!(!changes.iter().any(|change| change.starts_with('D')), "{changes:?}");
    }
}

#[test]
#[ignore = "needs root"]
fn an_image_that_is_lost_is_told() {
    for place in Place::each() {
        let graph = place.open(&[OPTION], OverlayTuning::default()).unwrap();
        fill_three(&graph);
        assert_eq!(graph.check(false).unwrap().len(), 0);
        let blob = place.layer("base/composefs-data/composefs.blob");
        fs::write(&blob, [0; 4096]).unwrap();
        let told = |graph: &Graph| {
            let problems = graph.check(false).unwrap();
            assert_eq!(problems.len(), 1, "{problems:?}");
            problems[0].to_string()
        };
        assert!(told(&graph).contains("no composefs image"), "{}", told(&graph));
        let error = graph.mount(&id("top"), &MountOptions::default()).unwrap_err();
        assert!(error.report().to_string().contains("composefs.blob"), "{}", error.report());
        fs::remove_file(&blob).unwrap();
        assert!(told(&graph).contains("composefs.blob"), "{}", told(&graph));
        graph.remove(&id("top")).unwrap();
        graph.remove(&id("middle")).unwrap();
        graph.remove(&id("base")).unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn the_option_is_refused_where_it_cannot_be_had() {
    let [place, _] = Place::each();
    for (with, reason) in [
        ("mountopt=metacopy=off", "metacopy=off and data-only layers exclude each other"),
        ("mountopt=redirect_dir=off", "exclude each other"),
        ("mount_program=/bin/true", "mounted by the mount program"),
    ] {
        let error = place.open(&[OPTION, with], OverlayTuning::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{}", error.report());
        assert!(error.report().to_string().contains(reason), "{}", error.report());
    }
}
