//! Layers of other homes, used as they are and never written to.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use graphdriver_archive::IdMap;
use graphdriver_core::{
    CreateOptions, DedupHash, ErrorKind, Graph, IdMaps, LayerApplyOptions, MountOptions, OpenOptions,
};
use nix::mount::{MsFlags, mount};
use support::{Store, archive, base, id, names, on, open, write};

/// A directory that holds `theirs`, a root with the layers `base` and `child`, and `shown`, the same where nobody can write.
struct Fixture {
    store: Store,
    theirs: Graph,
}

impl Fixture {
    fn new() -> Self {
        let store = Store::new();
        let dir = store.dir();
        let theirs = open(&OpenOptions::new(dir.join("theirs"), dir.join("their-run")));
        let contents = ["dir/", "dir/base", "file", "gone"];
        theirs
            .create_filled(
                &id("base"),
                &base(),
                &mut archive(&contents).as_slice(),
                &LayerApplyOptions::default(),
            )
            .unwrap();
        theirs.create(&id("child"), &on("base")).unwrap();
        let mounted = theirs.mount(&id("child"), &MountOptions::default()).unwrap();
        fs::write(mounted.path().join("dir/child"), "child").unwrap();
        fs::remove_file(mounted.path().join("gone")).unwrap();
        mounted.unmount().unwrap();
        let shown = dir.join("shown");
        fs::create_dir(&shown).unwrap();
        let bind =
            |source: Option<&Path>, flags| mount(source, &shown, None::<&str>, flags, None::<&str>).unwrap();
        bind(Some(&dir.join("theirs")), MsFlags::MS_BIND);
        bind(None, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY);
        fs::write(shown.join("overlay/new"), "").unwrap_err();
        Self { store, theirs }
    }

    fn open(&self) -> Graph {
        open_with(self.store.dir(), &self.store.dir().join("shown"))
    }

    fn mounts(&self) -> Vec<String> {
        names(self.store.dir().join("run/overlay"))
    }
}

fn open_with(dir: &Path, image_store: &Path) -> Graph {
    let option = format!("overlay.imagestore={}", image_store.display()).parse().unwrap();
    open(&OpenOptions::new(dir.join("ours"), dir.join("run")).with_options([option]))
}

fn diff(graph: &Graph, layer: &str, base: Option<&str>) -> Vec<u8> {
    let mut tar = Vec::new();
    let base = base.map(id);
    let mut diff = graph.diff(&id(layer), base.as_ref(), &IdMaps::default()).unwrap();
    diff.read_to_end(&mut tar).unwrap();
    tar
}

fn changes(graph: &Graph, layer: &str, base: &str) -> Vec<String> {
    graph.changes(&id(layer), Some(&id(base))).unwrap().iter().map(ToString::to_string).collect()
}

#[test]
#[ignore = "needs root"]
fn everything_that_only_reads_works() {
    let fixture = Fixture::new();
    let (ours, theirs) = (fixture.open(), &fixture.theirs);
    assert_eq!(ours.image_stores(), [fixture.store.dir().join("shown")]);
    assert_eq!(ours.layers().unwrap(), []);
    for layer in ["base", "child"] {
        let layer = &id(layer);
        assert!(ours.exists(layer).unwrap());
        assert_eq!(ours.parent(layer).unwrap(), theirs.parent(layer).unwrap());
        assert_eq!(ours.usage(layer).unwrap(), theirs.usage(layer).unwrap());
        assert!(
            ours.metadata(layer).unwrap()["UpperDir"]
                .starts_with(fixture.store.dir().join("shown").to_str().unwrap())
        );
    }
    assert_eq!(changes(&ours, "child", "base"), ["C /dir", "A /dir/child", "D /gone"]);
    assert!(diff(&ours, "child", Some("base")) == diff(theirs, "child", Some("base")));
    assert!(diff(&ours, "base", None) == diff(theirs, "base", None));
    assert_eq!(ours.diff_size(&id("child"), Some(&id("base"))).unwrap(), 5);
    assert!(!ours.exists(&id("other")).unwrap());
}

#[test]
#[ignore = "needs root"]
fn mounts_are_read_only_and_in_the_run_home() {
    let fixture = Fixture::new();
    let ours = fixture.open();
    let before = fixture.mounts();
    for layer in ["base", "child"] {
        let first = ours.mount(&id(layer), &MountOptions::default()).unwrap();
        let second = ours.mount(&id(layer), &MountOptions::read_only()).unwrap();
        assert_eq!(first.path(), fixture.store.dir().join("run/overlay").join(layer).join("merged"));
        assert_eq!(names(first.path().join("dir")).len(), if layer == "base" { 1 } else { 2 });
        assert_eq!(first.path().join("gone").exists(), layer == "base");
        let error = fs::write(first.path().join("new"), "").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        // Their own mounts are none of our business.
        let theirs = fixture.theirs.mount(&id(layer), &MountOptions::default()).unwrap();
        first.unmount().unwrap();
        assert_eq!(fs::read_to_string(second.path().join("file")).unwrap(), "file");
        second.unmount().unwrap();
        assert_eq!(fixture.mounts(), before, "the mount point stays");
        assert!(theirs.path().join("file").exists());
        theirs.unmount().unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn layers_of_ours_lie_on_theirs() {
    let fixture = Fixture::new();
    let ours = fixture.open();
    ours.create(&id("mine"), &on("child")).unwrap();
    ours.create(&id("mine-too"), &on("mine")).unwrap();
    let lower = fs::read_to_string(fixture.store.dir().join("ours/overlay/mine-too/lower")).unwrap();
    assert_eq!(lower.split(':').count(), 3);
    assert_eq!(names(fixture.store.dir().join("ours/overlay/l")).len(), 2);
    write(&ours, "mine", "dir/mine", "mine");
    assert_eq!(changes(&ours, "mine", "child"), ["C /dir", "A /dir/mine"]);
    let mounted = ours.mount(&id("mine-too"), &MountOptions::default()).unwrap();
    assert_eq!(names(mounted.path().join("dir")), ["base", "child", "mine"]);
    mounted.unmount().unwrap();
    assert_eq!(ours.layers().unwrap(), [id("mine"), id("mine-too")]);
    assert_eq!(ours.parent(&id("mine")).unwrap(), Some(id("child")));
    // An archive on one of their layers, unpacked out of sight.
    let filled = ours.create_filled(
        &id("filled"),
        &on("base"),
        &mut archive(&["dir/filled"]).as_slice(),
        &LayerApplyOptions::default(),
    );
    filled.unwrap();
    let mounted = ours.mount(&id("filled"), &MountOptions::read_only()).unwrap();
    assert_eq!(names(mounted.path().join("dir")), ["base", "filled"]);
    mounted.unmount().unwrap();
    for layer in ["filled", "mine-too", "mine"] {
        ours.remove(&id(layer)).unwrap();
    }
    assert_eq!(names(fixture.store.dir().join("ours/overlay/l")), [""; 0]);
}

#[test]
#[ignore = "needs root"]
fn what_would_write_is_refused() {
    let fixture = Fixture::new();
    // Not even where the file system would let us.
    for image_store in ["shown", "theirs"] {
        let ours = open_with(fixture.store.dir(), &fixture.store.dir().join(image_store));
        for layer in ["base", "child"] {
            let error = ours.remove(&id(layer)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.to_string().contains("additional image store"), "{error}");
        }
        let error = ours.create(&id("base"), &base()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LayerExists);
        let tar = archive(&["new"]);
        let error = ours.apply(&id("child"), &mut tar.as_slice(), &LayerApplyOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert_eq!(ours.remove(&id("other")).unwrap_err().kind(), ErrorKind::LayerUnknown);
    }
    let home = fixture.store.dir().join("theirs/overlay");
    assert_eq!(names(home.join("tempdirs")), [""; 0]);
    assert!(fixture.theirs.exists(&id("child")).unwrap());
}

/// Everything below, with what changes whenever something is written to it.
fn fingerprint(dir: &Path) -> Vec<String> {
    let look = |path: &Path| {
        let found = path.symlink_metadata().unwrap();
        let times = (found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec());
        format!("{path:?} {} {times:?}", found.ino())
    };
    let mut found = vec![look(dir)];
    for path in names(dir).into_iter().map(|name| dir.join(name)) {
        if path.symlink_metadata().unwrap().is_dir() {
            found.extend(fingerprint(&path));
        } else {
            found.push(look(&path));
        }
    }
    found
}

/// A read-only file system would hide an attempt whose failure does not matter.
#[test]
#[ignore = "needs root"]
fn nothing_is_written_where_it_could_be() {
    let fixture = Fixture::new();
    let theirs = fixture.store.dir().join("theirs");
    // What would be mended, removed or swept in a home of ours.
    for dir in ["tempdirs/temp-dir-x/layer/diff", "staging/old/dir", "half/work"] {
        fs::create_dir_all(theirs.join("overlay").join(dir)).unwrap();
    }
    fs::write(theirs.join("overlay/tempdirs/lock-x"), "").unwrap();
    symlink("../gone/diff", theirs.join("overlay/l/DANGLING")).unwrap();
    let before = fingerprint(&theirs);
    let ours = open_with(fixture.store.dir(), &theirs);
    for layer in ["base", "child"].map(id) {
        assert!(ours.exists(&layer).unwrap());
        ours.mount(&layer, &MountOptions::default()).unwrap().unmount().unwrap();
        let maps = vec![IdMap { container_id: 0, host_id: 100_000, size: 1000 }];
        let id_maps = IdMaps::new(maps.clone(), maps).unwrap();
        let mounted =
            ours.mount(&layer, &MountOptions { id_maps: id_maps.clone(), ..MountOptions::default() });
        mounted.unwrap().unmount().unwrap();
        ours.usage(&layer).unwrap();
        ours.metadata(&layer).unwrap();
        ours.diff_size(&layer, None).unwrap();
        diff(&ours, layer.as_str(), None);
        ours.open_file(&layer, Path::new("file")).unwrap();
        ours.update_layer_id_map(&layer, &IdMaps::default(), &id_maps).unwrap_err();
        ours.remove(&layer).unwrap_err();
        ours.apply(&layer, &mut archive(&["new"]).as_slice(), &LayerApplyOptions::default()).unwrap_err();
        let power = ours.driver().staged_apply().unwrap();
        let tar = archive(&["new"]);
        let staged =
            power.stage(&CreateOptions::on(&layer), &mut tar.as_slice(), &LayerApplyOptions::default());
        staged.unwrap().commit(&layer).unwrap_err();
        ours.create(&id("mine"), &CreateOptions::on(&layer)).unwrap();
        write(&ours, "mine", "file", "copied up");
        assert!(!diff(&ours, "mine", Some(layer.as_str())).is_empty());
        ours.create_from_template(&id("copy"), &layer, &base()).unwrap();
        for mine in ["mine", "copy"] {
            ours.remove(&id(mine)).unwrap();
        }
    }
    assert_eq!(ours.dedup(&["base", "child"].map(id), DedupHash::Sha256).unwrap(), 0);
    for repair in [false, true] {
        assert_eq!(ours.check(repair).unwrap(), []);
    }
    ours.cleanup().unwrap();
    drop(open_with(fixture.store.dir(), &theirs));
    assert_eq!(fingerprint(&theirs), before);
}

#[test]
#[ignore = "needs root"]
fn their_lost_links_are_found_and_not_mended() {
    let fixture = Fixture::new();
    let home = fixture.store.dir().join("theirs/overlay");
    for link in names(home.join("l")) {
        fs::remove_file(home.join("l").join(link)).unwrap();
    }
    let ours = open_with(fixture.store.dir(), &fixture.store.dir().join("theirs"));
    assert_eq!(ours.parent(&id("child")).unwrap(), Some(id("base")));
    ours.create(&id("mine"), &on("child")).unwrap();
    let mounted = ours.mount(&id("mine"), &MountOptions::default()).unwrap();
    assert_eq!(names(mounted.path().join("dir")), ["base", "child"]);
    mounted.unmount().unwrap();
    assert_eq!(names(home.join("l")), [""; 0]);
    // Without the link file, no child can name the layer.
    fs::remove_file(home.join("base/link")).unwrap();
    let error = ours.create(&id("more"), &on("base")).unwrap_err();
    assert!(error.to_string().contains("not ours to mend"), "{error}");
}

#[test]
#[ignore = "needs root"]
fn several_stores_are_searched_in_their_order_after_the_home() {
    let fixture = Fixture::new();
    let dir = fixture.store.dir();
    let more = open(&OpenOptions::new(dir.join("more"), dir.join("more-run")));
    for layer in ["base", "ours", "extra"] {
        more.create(&id(layer), &base()).unwrap();
        write(&more, layer, "more", "");
    }
    let ours = open(&OpenOptions::new(dir.join("ours"), dir.join("run")));
    ours.create(&id("ours"), &base()).unwrap();
    drop(ours);
    fs::create_dir(dir.join("empty")).unwrap();
    let stores = ["empty", "shown", "more"].map(|name| dir.join(name).display().to_string()).join(",");
    let options = [format!("overlay.additionalimagestore={stores}").parse().unwrap()];
    let ours = open(&OpenOptions::new(dir.join("ours"), dir.join("run")).with_options(options));
    let has_more = |layer: &str| {
        let mounted = ours.mount(&id(layer), &MountOptions::default()).unwrap();
        mounted.path().join("more").exists()
    };
    assert!(!has_more("base"), "the first store that has it counts");
    assert!(!has_more("ours"), "the home comes first");
    assert!(has_more("extra"));
    assert_eq!(ours.layers().unwrap(), [id("ours")]);
}

#[test]
#[ignore = "needs root"]
fn a_link_out_of_a_store_is_refused() {
    let fixture = Fixture::new();
    let home = fixture.store.dir().join("theirs/overlay");
    // A link made by hand leads nowhere else than the store's own.
    symlink("../../../ours/overlay/base/diff", home.join("l/EVIL")).unwrap();
    fs::write(home.join("child/lower"), "l/EVIL").unwrap();
    let ours = open_with(fixture.store.dir(), &fixture.store.dir().join("theirs"));
    let error = ours.mount(&id("child"), &MountOptions::default()).unwrap_err();
    assert!(error.to_string().contains("is no layer of this store"), "{error}");
}

/// A store may be another machine's, whose links would be followed on this one.
#[test]
#[ignore = "needs root"]
fn a_layer_that_lies_elsewhere_is_refused() {
    let fixture = Fixture::new();
    let home = fixture.store.dir().join("theirs/overlay");
    let secret = fixture.store.dir().join("secret");
    fs::create_dir_all(secret.join("diff")).unwrap();
    fs::write(secret.join("diff/key"), "").unwrap();
    let ours = open_with(fixture.store.dir(), &fixture.store.dir().join("theirs"));
    // The directory of a layer, and of the changes in it; also with a note as if another program showed it.
    fs::rename(home.join("base"), fixture.store.dir().join("base")).unwrap();
    symlink(&secret, home.join("base")).unwrap();
    let refused = || {
        for layer in ["base", "child"] {
            let error = ours.mount(&id(layer), &MountOptions::default()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PathEscape, "{layer}: {}", error.report());
        }
        let error = ours.open_file(&id("base"), Path::new("key")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PathEscape);
        assert_eq!(ours.create(&id("mine"), &on("base")).unwrap_err().kind(), ErrorKind::PathEscape);
    };
    refused();
    fs::remove_file(home.join("base")).unwrap();
    fs::rename(fixture.store.dir().join("base"), home.join("base")).unwrap();
    fs::rename(home.join("base/diff"), home.join("base/kept")).unwrap();
    symlink(secret.join("diff"), home.join("base/diff")).unwrap();
    refused();
    fs::write(home.join("base/additionallayer"), secret.as_os_str().as_encoded_bytes()).unwrap();
    refused();
    // What would be below it after a rewrite of owners.
    fs::remove_file(home.join("base/additionallayer")).unwrap();
    fs::remove_file(home.join("base/diff")).unwrap();
    fs::rename(home.join("base/kept"), home.join("base/diff")).unwrap();
    symlink(secret.join("diff"), home.join("base/diff1")).unwrap();
    let mounted = ours.mount(&id("child"), &MountOptions::default()).unwrap();
    assert!(mounted.path().join("file").exists() && !mounted.path().join("key").exists());
    mounted.unmount().unwrap();
    // In an additional layer store of ours, it is where it belongs.
    fs::remove_file(home.join("base/diff1")).unwrap();
    fs::rename(home.join("base/diff"), home.join("base/kept")).unwrap();
    symlink(secret.join("diff"), home.join("base/diff")).unwrap();
    let options = [
        format!("overlay.imagestore={}", fixture.store.dir().join("theirs").display()),
        format!("overlay.additionallayerstore={}", fixture.store.dir().display()),
    ]
    .map(|option| option.parse().unwrap());
    let dir = fixture.store.dir();
    let ours = open(&OpenOptions::new(dir.join("ours"), dir.join("run")).with_options(options));
    assert!(ours.mount(&id("child"), &MountOptions::default()).unwrap().path().join("key").exists());
}

/// Tells a child process where its store is.
const ROOT: &str = "OVERLAY_TEST_ROOT";

#[test]
#[ignore = "needs root"]
fn a_mount_of_a_killed_process_is_cleaned_up() {
    if let Some(root) = env::var_os(ROOT).map(PathBuf::from) {
        let ours = open_with(&root, &root.join("shown"));
        let _mount = ours.mount(&id("child"), &MountOptions::default()).unwrap();
        println!("ready");
        std::thread::sleep(std::time::Duration::from_secs(3600));
        return;
    }
    let fixture = Fixture::new();
    let before = {
        fixture.open();
        fixture.mounts()
    };
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "a_mount_of_a_killed_process_is_cleaned_up", "--ignored", "--nocapture"])
        .env(ROOT, fixture.store.dir())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.ends_with("ready")));
    let ours = fixture.open();
    ours.cleanup().unwrap();
    assert!(fixture.mounts().contains(&"child".to_owned()), "cleanup took a mount that was in use");
    child.kill().unwrap();
    child.wait().unwrap();
    ours.cleanup().unwrap();
    assert_eq!(fixture.mounts(), before);
}
