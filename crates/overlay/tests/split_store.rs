//! Read-only layers in one place, read-write ones in another.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;

use graphdriver_archive::{ApplyOptions, RootDir};
use graphdriver_core::{
    CreateOptions, DedupHash, Differ, DifferOutput, ErrorKind, Graph, LayerApplyOptions, LayerKind,
    MountOptions, OpenOptions, Result,
};
use nix::mount::{MsFlags, mount};
use support::{Store, archive, base, id, names, on, open, write};

/// A root, and a store for read-only layers on another file system.
struct Fixture {
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let store = Store::new();
        let images = store.dir().join("images");
        fs::create_dir(&images).unwrap();
        mount(Some("tmpfs"), &images, Some("tmpfs"), MsFlags::empty(), Some("size=64m")).unwrap();
        Self { store }
    }

    fn options(&self) -> OpenOptions {
        OpenOptions::new(self.store.dir().join("root"), self.store.dir().join("run"))
            .with_image_store(self.store.dir().join("images"))
    }

    fn open(&self) -> Graph {
        open(&self.options())
    }

    fn home(&self) -> PathBuf {
        self.store.dir().join("root/overlay")
    }

    fn images(&self) -> PathBuf {
        self.store.dir().join("images/overlay")
    }

    /// The layers in each of both.
    fn layers(&self) -> [Vec<String>; 2] {
        [self.home(), self.images()]
            .map(|dir| names(&dir).into_iter().filter(|name| dir.join(name).join("diff").is_dir()).collect())
    }
}

fn rw(parent: &str) -> CreateOptions {
    CreateOptions { kind: LayerKind::ReadWrite, ..on(parent) }
}

fn fill(graph: &Graph, layer: &str, create: &CreateOptions, entries: &[&str]) {
    let tar = archive(entries);
    graph.create_filled(&id(layer), create, &mut tar.as_slice(), &LayerApplyOptions::default()).unwrap();
}

#[test]
#[ignore = "needs root"]
fn each_kind_has_its_place_and_both_are_seen() {
    let fixture = Fixture::new();
    let graph = fixture.open();
    fill(&graph, "image", &base(), &["dir/", "dir/a", "gone"]);
    fill(&graph, "image-2", &on("image"), &["dir/b"]);
    graph.create(&id("unfilled"), &on("image")).unwrap();
    graph.apply(&id("unfilled"), &mut archive(&["late"]).as_slice(), &LayerApplyOptions::default()).unwrap();
    graph.create(&id("container"), &rw("image-2")).unwrap();
    graph.create(&id("scratch"), &CreateOptions { kind: LayerKind::ReadWrite, ..base() }).unwrap();
    assert_eq!(fixture.layers(), [vec!["container", "scratch"], vec!["image", "image-2", "unfilled"]]);
    assert_eq!(graph.layers().unwrap(), ["container", "image", "image-2", "scratch", "unfilled"].map(id));
    for (dir, links) in [(fixture.home(), 2), (fixture.images(), 3)] {
        assert_eq!(names(dir.join("l")).len(), links);
        assert_eq!(names(dir.join("tempdirs")), [""; 0]);
    }
    write(&graph, "container", "dir/c", "c");
    let mounted = graph.mount(&id("container"), &MountOptions::default()).unwrap();
    assert_eq!(mounted.path(), fixture.home().join("container/merged"));
    assert_eq!(names(mounted.path().join("dir")), ["a", "b", "c"]);
    mounted.unmount().unwrap();
    // Layers of the image store are ours: they can be written to.
    write(&graph, "image-2", "written", "");
    assert_eq!(names(fixture.images().join("image-2/diff")), ["dir", "written"]);
    assert_eq!(graph.parent(&id("container")).unwrap(), Some(id("image-2")));
    let changes = graph.changes(&id("container"), Some(&id("image-2"))).unwrap();
    assert_eq!(changes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["C /dir", "A /dir/c"]);
    // A read-only layer on a container: a commit.
    fill(&graph, "commit", &on("container"), &["dir/d"]);
    assert!(fixture.images().join("commit/diff").is_dir());
    let mounted = graph.mount(&id("commit"), &MountOptions::read_only()).unwrap();
    assert_eq!(names(mounted.path().join("dir")), ["a", "b", "c", "d"]);
}

#[test]
#[ignore = "needs root"]
fn removal_works_in_both() {
    let fixture = Fixture::new();
    let graph = fixture.open();
    fill(&graph, "image", &base(), &["file"]);
    graph.create(&id("container"), &rw("image")).unwrap();
    let error = graph.remove(&id("image")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LayerInUse);
    assert!(error.to_string().contains("layer container lies on it"), "{error}");
    assert_eq!(graph.create(&id("image"), &rw("container")).unwrap_err().kind(), ErrorKind::LayerExists);
    // What is half made in the home does not stand before the layer.
    fs::create_dir_all(fixture.home().join("image/work")).unwrap();
    assert!(graph.exists(&id("image")).unwrap());
    let removal = graph.remove_deferred(&id("container")).unwrap();
    assert!(!graph.exists(&id("container")).unwrap());
    removal.finish().unwrap();
    let removal = graph.remove_deferred(&id("image")).unwrap();
    assert_eq!(names(fixture.images().join("tempdirs")).len(), 2, "renamed within its own file system");
    removal.finish().unwrap();
    graph.remove(&id("image")).unwrap();
    assert_eq!(fixture.layers(), [const { Vec::<String>::new() }; 2]);
    for dir in [fixture.home(), fixture.images()] {
        assert_eq!(names(dir.join("l")), [""; 0]);
        assert_eq!(names(dir.join("tempdirs")), [""; 0]);
    }
}

#[test]
#[ignore = "needs root"]
fn leftovers_and_lost_links_are_mended_in_both() {
    let fixture = Fixture::new();
    let graph = fixture.open();
    fill(&graph, "image", &base(), &["file"]);
    graph.create(&id("container"), &rw("image")).unwrap();
    drop(graph);
    for dir in [fixture.home(), fixture.images()] {
        for link in names(dir.join("l")) {
            fs::remove_file(dir.join("l").join(link)).unwrap();
        }
        let layer = dir.join("tempdirs/temp-dir-x/layer");
        fs::create_dir_all(layer.join("diff")).unwrap();
        fs::write(layer.join("link"), "DANGLING").unwrap();
        fs::write(dir.join("tempdirs/lock-x"), "").unwrap();
        symlink("../gone/diff", dir.join("l/DANGLING")).unwrap();
    }
    let graph = fixture.open();
    let mounted = graph.mount(&id("container"), &MountOptions::default()).unwrap();
    assert!(mounted.path().join("file").exists());
    mounted.unmount().unwrap();
    for dir in [fixture.home(), fixture.images()] {
        assert_eq!(names(dir.join("tempdirs")), [""; 0]);
        assert!(!dir.join("l/DANGLING").is_symlink());
    }
    assert_eq!(
        names(fixture.images().join("l")).len(),
        1,
        "the image's link was made again in its own store"
    );
}

/// Makes one file, and tells on which file system.
#[derive(Debug, Default)]
struct OneFile {
    device: u64,
}

impl Differ for OneFile {
    fn fill(&mut self, directory: &RootDir, _: &ApplyOptions) -> Result<DifferOutput> {
        self.device = fs::metadata(directory.path()).unwrap().dev();
        fs::write(directory.path().join("file"), "contents").unwrap();
        Ok(DifferOutput::default())
    }
}

#[test]
#[ignore = "needs root"]
fn layers_are_staged_where_they_will_lie() {
    let fixture = Fixture::new();
    let graph = fixture.open();
    let device = |dir: PathBuf| fs::metadata(dir).unwrap().dev();
    assert_ne!(device(fixture.home()), device(fixture.images()));
    let power = graph.driver().staged_apply().unwrap();
    let read_write = CreateOptions { kind: LayerKind::ReadWrite, ..base() };
    for (layer, create, dir) in
        [("image", base(), fixture.images()), ("container", read_write, fixture.home())]
    {
        let mut differ = OneFile::default();
        let (staged, _) = power.stage_with(&create, &mut differ, &LayerApplyOptions::default()).unwrap();
        assert_eq!(differ.device, device(dir.clone()));
        assert_eq!(names(dir.join("tempdirs")).len(), 2, "a directory and its lock");
        staged.commit(&id(layer)).unwrap();
        assert_eq!(fs::read_to_string(dir.join(layer).join("diff/file")).unwrap(), "contents");
        assert_eq!(names(dir.join("tempdirs")), [""; 0]);
    }
    // Equal files on two file systems share nothing, and are no reason to fail.
    let layers = ["container", "image"].map(id);
    assert_eq!(graph.dedup(&layers, DedupHash::Sha256).unwrap(), 0);
    fill(&graph, "upper", &rw("image"), &["own"]);
    for name in ["file", "own"] {
        graph.open_file(&id("upper"), Path::new(name)).unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn several_that_share_the_pair_do_not_disturb_each_other() {
    let fixture = Fixture::new();
    fill(&fixture.open(), "image", &base(), &["file"]);
    // Locks are of open files, so that two drivers in one process exclude each other as two processes do. The third has the stores the other way round.
    let dir = fixture.store.dir();
    let turned = OpenOptions::new(dir.join("images"), dir.join("run-2")).with_image_store(dir.join("root"));
    let graphs = [fixture.open(), fixture.open(), open(&turned)];
    thread::scope(|scope| {
        for (number, graph) in graphs.iter().enumerate() {
            scope.spawn(move || {
                for round in 0..30 {
                    let [image, container] =
                        ["image", "container"].map(|kind| format!("{kind}-{number}-{round}"));
                    fill(graph, &image, &on("image"), &["dir/", "dir/x"]);
                    graph.create(&id(&container), &rw(&image)).unwrap();
                    write(graph, &container, "dir/y", "");
                    assert_eq!(graph.remove(&id(&image)).unwrap_err().kind(), ErrorKind::LayerInUse);
                    graph.remove(&id(&container)).unwrap();
                    graph.remove(&id(&image)).unwrap();
                }
            });
        }
    });
    assert_eq!(fixture.layers(), [vec![], vec!["image".to_owned()]]);
}

#[test]
#[ignore = "needs root"]
fn a_store_that_is_the_root_itself_is_the_root() {
    let store = Store::new();
    let root = store.dir().join("root");
    fs::create_dir(&root).unwrap();
    symlink("root", store.dir().join("link")).unwrap();
    for image_store in [&root, &store.dir().join("link")] {
        let options = OpenOptions::new(&root, store.dir().join("run")).with_image_store(image_store);
        let graph = open(&options);
        fill(&graph, "image", &base(), &["file"]);
        graph.create(&id("container"), &rw("image")).unwrap();
        assert_eq!(graph.layers().unwrap(), [id("container"), id("image")]);
        graph.remove(&id("container")).unwrap();
        graph.remove(&id("image")).unwrap();
    }
    assert!(Path::new(&root.join("overlay/l")).is_dir());
}
