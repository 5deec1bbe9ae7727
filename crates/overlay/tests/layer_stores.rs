//! Layers that another program shows. The program is played by the test: a directory in the form of such a store.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use graphdriver_archive::RootDir;
use graphdriver_core::{
    AdditionalLayers, CreateOptions, ErrorKind, Graph, IdMaps, LayerApplyOptions, MountOptions, OpenOptions,
};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use support::{Store, archive, base, id, names, on, open, write};

const DIGEST: &str = "sha256:6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b";
const REFERENCE: &str = "docker.io/library/alpine:latest";
/// `REFERENCE` in base 64.
const ENCODED: &str = "ZG9ja2VyLmlvL2xpYnJhcnkvYWxwaW5lOmxhdGVzdA==";

struct Fixture {
    store: Store,
    /// Where the store shows the layer.
    shown: PathBuf,
    graph: Graph,
}

impl Fixture {
    fn new(flag: &str) -> Self {
        let store = Store::new();
        let layers = store.dir().join("layers");
        let shown = if flag.is_empty() { layers.join(DIGEST) } else { layers.join(ENCODED).join(DIGEST) };
        fs::create_dir_all(shown.join("diff/dir")).unwrap();
        fs::write(shown.join("diff/dir/theirs"), "theirs").unwrap();
        fs::write(shown.join("info"), "{}").unwrap();
        fs::write(shown.join("blob"), "blob").unwrap();
        let option = format!("overlay.additionallayerstore={}{flag}", layers.display()).parse().unwrap();
        let options = OpenOptions::new(store.dir(), store.dir().join("run")).with_options([option]);
        let graph = open(&options);
        Self { store, shown, graph }
    }

    fn layers(&self) -> &dyn AdditionalLayers {
        self.graph.driver().additional_layers().unwrap()
    }

    fn create(&self, layer: &str, parent: Option<&str>) {
        let found = self.layers().lookup(DIGEST, REFERENCE).unwrap();
        found.create_as(&id(layer), parent.map(id).as_ref()).unwrap();
    }

    /// What tells the store: which names came and went in the layer's directory.
    fn watch(&self) -> Inotify {
        let watch = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        watch.add_watch(&self.shown, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE).unwrap();
        watch
    }

    /// Takes away what is in the layer's directory, so that the store's is removed by whoever gives the layer back.
    fn empty(&self) {
        remove(&self.shown.join("diff"));
        for file in ["info", "blob"] {
            fs::remove_file(self.shown.join(file)).unwrap();
        }
    }
}

fn remove(path: &Path) {
    RootDir::open(path.parent().unwrap()).unwrap().remove_all(Path::new(path.file_name().unwrap())).unwrap();
}

fn seen(watch: &Inotify) -> Vec<String> {
    match watch.read_events() {
        Ok(events) => events.into_iter().filter_map(|event| event.name?.into_string().ok()).collect(),
        Err(Errno::EAGAIN) => Vec::new(),
        Err(errno) => panic!("{errno}"),
    }
}

#[test]
#[ignore = "needs root"]
fn layers_are_found_by_digest_and_reference() {
    for flag in ["", ":ref"] {
        let fixture = Fixture::new(flag);
        let found = fixture.layers().lookup(DIGEST, REFERENCE).unwrap();
        let mut text = String::new();
        found.info().unwrap().read_to_string(&mut text).unwrap();
        found.blob().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "{}blob");
        let other = fixture.layers().lookup(DIGEST, "docker.io/library/other:latest");
        assert_eq!(other.is_ok(), flag.is_empty());
        for (digest, kind) in [
            ("sha256:00", ErrorKind::LayerUnknown),
            ("", ErrorKind::InvalidArgument),
            ("..", ErrorKind::InvalidArgument),
            ("../../x", ErrorKind::InvalidArgument),
        ] {
            assert_eq!(fixture.layers().lookup(digest, REFERENCE).unwrap_err().kind(), kind, "{digest:?}");
        }
        fs::remove_file(fixture.shown.join("blob")).unwrap();
        let error = fixture.layers().lookup(DIGEST, REFERENCE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LayerUnknown);
    }
    assert!(Store::new().open().driver().additional_layers().is_none());
}

#[test]
#[ignore = "needs root"]
fn only_what_lies_in_the_store_is_found() {
    for part in ["", "diff", "info", "blob"] {
        let fixture = Fixture::new("");
        let shown: PathBuf = fixture.shown.join(part).components().collect();
        let outside = fixture.store.dir().join("outside");
        fs::rename(&shown, &outside).unwrap();
        let lookup = || fixture.layers().lookup(DIGEST, REFERENCE).map(drop);
        for target in [outside.as_path(), Path::new("/etc")] {
            symlink(target, &shown).unwrap();
            assert_eq!(
                lookup().unwrap_err().kind(),
                ErrorKind::LayerUnknown,
                "{part:?} is a link to {target:?}"
            );
            fs::remove_file(&shown).unwrap();
        }
        fs::rename(&outside, &shown).unwrap();
        lookup().unwrap();
    }
    // The directory of an image, and the store itself, which may be behind a link.
    let fixture = Fixture::new(":ref");
    let (layers, image) =
        (fixture.store.dir().join("layers"), fixture.store.dir().join("layers").join(ENCODED));
    fs::rename(&image, fixture.store.dir().join("image")).unwrap();
    symlink("../image", &image).unwrap();
    assert_eq!(fixture.layers().lookup(DIGEST, REFERENCE).unwrap_err().kind(), ErrorKind::LayerUnknown);
    fs::remove_file(&image).unwrap();
    fs::rename(fixture.store.dir().join("image"), &image).unwrap();
    fs::rename(&layers, fixture.store.dir().join("elsewhere")).unwrap();
    symlink("elsewhere", &layers).unwrap();
    fixture.layers().lookup(DIGEST, REFERENCE).unwrap();
    // Base 64 has slashes for some bytes, which no reference has.
    fs::create_dir_all(layers.join("Li4")).unwrap();
    fs::rename(layers.join(ENCODED).join(DIGEST), layers.join("Li4").join(DIGEST)).unwrap();
    for reference in ["..?", "", "/"] {
        let error = fixture.layers().lookup(DIGEST, reference).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LayerUnknown, "{reference:?}");
    }
}

/// A fifo in the place of a file would let its reader wait for ever.
#[test]
#[ignore = "needs root"]
fn a_file_that_became_something_else_is_not_opened() {
    let fixture = Fixture::new("");
    let found = fixture.layers().lookup(DIGEST, REFERENCE).unwrap();
    let blob = fixture.shown.join("blob");
    fs::remove_file(&blob).unwrap();
    mkfifo(&blob, Mode::S_IRWXU).unwrap();
    let message = found.blob().unwrap_err().report().to_string();
    assert!(message.contains("Fifo") && message.contains("blob"), "{message}");
    assert_eq!(fixture.layers().lookup(DIGEST, REFERENCE).unwrap_err().kind(), ErrorKind::LayerUnknown);
    fs::remove_file(&blob).unwrap();
    symlink("/etc/passwd", &blob).unwrap();
    assert_eq!(found.blob().unwrap_err().errno(), Some(Errno::ELOOP));
    found.info().unwrap();
}

#[test]
#[ignore = "needs root"]
fn the_store_is_told_of_use_and_of_its_end() {
    let fixture = Fixture::new(":ref");
    let watch = fixture.watch();
    let found = fixture.layers().lookup(DIGEST, REFERENCE).unwrap();
    assert_eq!(seen(&watch), ["use", "use"], "made, and removed again");
    found.create_as(&id("lent"), None).unwrap();
    assert_eq!(seen(&watch), ["use", "use"]);
    assert_eq!(found.create_as(&id("lent"), None).unwrap_err().kind(), ErrorKind::LayerExists);
    drop(found);
    assert_eq!(names(&fixture.shown), ["blob", "diff", "info"], "a plain directory stays as it is");
    fs::write(fixture.shown.join("use"), "somebody else's").unwrap();
    fixture.layers().lookup(DIGEST, REFERENCE).unwrap();
    assert_eq!(fs::read_to_string(fixture.shown.join("use")).unwrap(), "somebody else's");
    fs::remove_file(fixture.shown.join("use")).unwrap();
    fixture.layers().of_layer(&id("lent")).unwrap();
    fixture.graph.create(&id("plain"), &base()).unwrap();
    for layer in ["plain", "missing"] {
        assert_eq!(fixture.layers().of_layer(&id(layer)).unwrap_err().kind(), ErrorKind::LayerUnknown);
    }
    fixture.empty();
    assert!(fixture.shown.is_dir());
    fixture.graph.remove(&id("lent")).unwrap();
    assert!(!fixture.shown.exists(), "the directory was not given back");
}

#[test]
#[ignore = "needs root"]
fn layers_of_the_store_are_mounted_and_built_on() {
    let fixture = Fixture::new("");
    let graph = &fixture.graph;
    let home = fixture.store.home();
    graph
        .create_filled(
            &id("base"),
            &base(),
            &mut archive(&["dir/", "dir/ours"]).as_slice(),
            &LayerApplyOptions::default(),
        )
        .unwrap();
    fixture.create("lent", Some("base"));
    assert_eq!(
        fs::read_to_string(home.join("lent/additionallayer")).unwrap(),
        fixture.shown.to_str().unwrap()
    );
    assert_eq!(fs::read_link(home.join("lent/diff")).unwrap(), fixture.shown.join("diff"));
    graph.create(&id("top"), &on("lent")).unwrap();
    write(graph, "top", "dir/top", "");
    let mounted = graph.mount(&id("top"), &MountOptions::default()).unwrap();
    assert_eq!(names(mounted.path().join("dir")), ["ours", "theirs", "top"]);
    mounted.unmount().unwrap();
    let mounted = graph.mount(&id("lent"), &MountOptions::default()).unwrap();
    assert_eq!(names(mounted.path().join("dir")), ["ours", "theirs"]);
    let error = fs::write(mounted.path().join("new"), "").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    mounted.unmount().unwrap();
    assert_eq!(graph.layers().unwrap(), ["base", "lent", "top"].map(id));
    assert_eq!(graph.parent(&id("top")).unwrap(), Some(id("lent")));
    let changes = graph.changes(&id("lent"), Some(&id("base"))).unwrap();
    assert_eq!(changes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["C /dir", "A /dir/theirs"]);
    let mut tar = Vec::new();
    graph.diff(&id("lent"), Some(&id("base")), &IdMaps::default()).unwrap().read_to_end(&mut tar).unwrap();
    assert!(tar.windows(10).any(|part| part == b"dir/theirs"));
    let error = graph.apply(&id("lent"), &mut archive(&["new"]).as_slice(), &LayerApplyOptions::default());
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(graph.remove(&id("lent")).unwrap_err().kind(), ErrorKind::LayerInUse);
    for layer in ["top", "lent", "base"] {
        graph.remove(&id(layer)).unwrap();
    }
    assert_eq!(fs::read_to_string(fixture.shown.join("diff/dir/theirs")).unwrap(), "theirs");
}

#[test]
#[ignore = "needs root"]
fn a_layer_whose_store_is_gone_is_told_and_can_be_removed() {
    let fixture = Fixture::new("");
    fixture.create("lent", None);
    assert_eq!(fixture.graph.check(true).unwrap(), []);
    let _ = fixture.graph.create(&id("top"), &CreateOptions::on(&id("lent")));
    remove(&fixture.shown);
    assert!(fixture.graph.exists(&id("lent")).unwrap());
    for repair in [false, true] {
        let [problem] = <[_; 1]>::try_from(fixture.graph.check(repair).unwrap()).unwrap();
        assert_eq!(problem.layer, Some(id("lent")));
        assert!(problem.to_string().contains("what it was made from, is not there"), "{problem}");
        assert!(problem.remains());
    }
    let error = fixture.graph.mount(&id("top"), &MountOptions::default()).unwrap_err();
    assert!(error.report().to_string().contains("lent/diff"), "{}", error.report());
    fixture.graph.remove(&id("top")).unwrap();
    fixture.graph.remove(&id("lent")).unwrap();
    assert_eq!(fixture.graph.layers().unwrap(), []);
    assert_eq!(names(fixture.store.home().join("l")), [""; 0]);
}
