//! Failures: each its own kind, and nothing left behind.

use std::fs;
use std::time::{Duration, Instant};

use graphdriver_core::{CreateOptions, ErrorKind, LayerApplyOptions, LayerId};

use crate::backing::{mount_small_btrfs, mount_tmpfs};
use crate::configuration::Driver;
use crate::content;
use crate::store::{Store, fails, id};
use crate::tarball::{Entry, Tarball};
use crate::zfs;

pub fn by_kind(store: &Store) {
    let graph = store.graph();
    let base = store.create("base", None);
    store.edit(&base, |root| fs::write(root.join("file"), "base").unwrap());
    let message = fails(graph.create(&base, &CreateOptions::default()), ErrorKind::LayerExists);
    assert!(message.contains("base") && message.contains(graph.name()), "{message}");
    fails(store.try_fill(&base, None, &mut &*Tarball::of([])), ErrorKind::LayerExists);
    store.edit(&base, |root| assert!(root.join("file").exists(), "the existing layer is as it was"));
    let orphan = id("orphan");
    let message = fails(graph.create(&orphan, &CreateOptions::on(&id("missing"))), ErrorKind::ParentUnknown);
    assert!(message.contains("missing"), "{message}");
    fails(store.try_fill(&orphan, Some(&id("missing")), &mut &*Tarball::of([])), ErrorKind::ParentUnknown);
    assert!(!graph.exists(&orphan).unwrap());
    let apply = LayerApplyOptions::default();
    fails(graph.apply(&orphan, &mut &*Tarball::of([]), &apply), ErrorKind::LayerUnknown);
    fails(graph.diff(&orphan, None, &graphdriver_archive::IdMaps::default()), ErrorKind::LayerUnknown);
    fails(graph.changes(&orphan, Some(&base)), ErrorKind::LayerUnknown);
    fails(graph.changes(&base, Some(&orphan)), ErrorKind::LayerUnknown);
    fails(graph.diff_size(&orphan, Some(&base)), ErrorKind::LayerUnknown);
    for text in ["", ".", "..", "a/b", "/", "l", "tempdirs", "-x"] {
        fails(text.parse::<LayerId>(), ErrorKind::InvalidArgument);
    }
    fails(store.configuration().open_with(store.dir(), &["no_such_option=1"]), ErrorKind::InvalidArgument);
    assert_eq!(graph.layers().unwrap(), [base]);
}

/// Fills layers from an archive that must be refused, with a parent and without; nothing may be left.
fn refused(store: &Store, archive: &[u8], kind: ErrorKind) -> String {
    let base = id("base");
    let before = store.files();
    let mut message = String::new();
    for parent in [None, Some(&base)] {
        message = fails(store.try_fill(&id("refused"), parent, &mut &*archive), kind);
        assert!(!store.graph().exists(&id("refused")).unwrap());
        store.assert_files(&before);
    }
    message
}

pub fn truncated_archive(store: &Store) {
    store.create("base", None);
    let whole =
        Tarball::of([Entry::file("first", "whole"), Entry::file("second", content::bytes(1, 100_000))]);
    // Within the second file's contents, within its header, and within the first file's block.
    for length in [50_000, 1200, 700] {
        refused(store, &whole[..length], ErrorKind::InvalidArchive);
    }
    refused(store, &content::bytes(2, 4096), ErrorKind::InvalidArchive);
    let mut broken = whole;
    broken[1024 + 3] ^= 1;
    refused(store, &broken, ErrorKind::InvalidArchive);
}

pub fn path_escape(store: &Store) {
    store.create("base", None);
    let victim = store.dir().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("hello"), "untouched").unwrap();
    for entries in [
        vec![Entry::file("../victim/hello", "")],
        vec![Entry::file("/../victim/hello", "")],
        vec![Entry::file("a/../../victim/hello", "")],
        vec![Entry::hard_link("link", "../victim/hello")],
        vec![Entry::hard_link("link", "/../victim/hello"), Entry::file("link", "written")],
        vec![Entry::whiteout("../victim/hello")],
    ] {
        let name = String::from("victim");
        let message = refused(store, &Tarball::of(entries), ErrorKind::PathEscape);
        assert!(message.contains(&name), "the message names the entry: {message}");
    }
    // Symbolic links are resolved inside of the layer, so these are no escapes, and touch nothing outside.
    let through_links = Tarball::of([
        Entry::symlink(
            "out",
            victim.strip_prefix("/").map(|path| std::path::Path::new("/../../../..").join(path)).unwrap(),
        ),
        Entry::file("out/hello", "written"),
        Entry::symlink("up", "../../../../../../victim"),
        Entry::file("up/hello", "written"),
        Entry::whiteout("up/hello"),
    ]);
    let _ = store.try_fill(&id("links"), None, &mut &*through_links);
    assert_eq!(fs::read(victim.join("hello")).unwrap(), b"untouched");
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 1);
}

pub fn no_space(store: &Store) {
    let small = store.dir().join("small");
    fs::create_dir(&small).unwrap();
    let driver = store.configuration().driver;
    let frees_later = matches!(driver, Driver::Btrfs | Driver::Zfs);
    match driver {
        Driver::Btrfs => mount_small_btrfs(&small).unwrap_or_else(|need| panic!("{need}")),
        Driver::Zfs => zfs::make_small_pool(&small),
        Driver::Aufs | Driver::HardLink | Driver::Overlay | Driver::Vfs => mount_tmpfs(&small, "8m"),
    }
    let graph = store.configuration().open(&small).unwrap();
    graph.create(&id("base"), &CreateOptions::default()).unwrap();
    let used = || {
        if driver == Driver::Zfs {
            return (zfs::small_pool_used() / 512, 0);
        }
        let stat = nix::sys::statvfs::statvfs(&small).unwrap();
        (stat.blocks() - stat.blocks_free(), stat.files() - stat.files_free())
    };
    let before = used();
    // In blocks; trees of the file system grow and shrink.
    let (file_bytes, slack) = match driver {
        Driver::Btrfs => (4 << 20, 2048),
        Driver::Zfs => (2 << 20, 2048),
        Driver::Aufs | Driver::HardLink | Driver::Overlay | Driver::Vfs => (1 << 20, 0),
    };
    let archive = Tarball::of(
        (0..16).map(|index| Entry::file(format!("file-{index}"), content::bytes(index, file_bytes))),
    );
    for parent in [None, Some(id("base"))] {
        let create = CreateOptions { parent, ..CreateOptions::default() };
        let result = graph.create_filled(&id("big"), &create, &mut &*archive, &LayerApplyOptions::default());
        fails(result, ErrorKind::NoSpace);
        assert!(!graph.exists(&id("big")).unwrap());
        // The space of a subvolume or dataset becomes free in the background.
        let deadline = Instant::now() + Duration::from_secs(60);
        while frees_later && used().0 > before.0 + slack && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
            nix::unistd::syncfs(fs::File::open(&small).unwrap()).unwrap();
        }
        let now = used();
        // Opening the home made mounts, whose last files the kernel frees in its own time: there may be less than there was.
        assert!(
            now.0 <= before.0 + slack && now.1 <= before.1,
            "all space is given back: {now:?}, before {before:?}"
        );
    }
    fails(graph.apply(&id("base"), &mut &*archive, &LayerApplyOptions::default()), ErrorKind::NoSpace);
    assert_eq!(graph.layers().unwrap(), [id("base")]);
    graph.remove(&id("base")).unwrap();
    drop(graph);
    if driver == Driver::Zfs {
        zfs::destroy_small_pool();
    } else {
        nix::mount::umount2(&small, nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
}
