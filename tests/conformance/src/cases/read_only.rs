//! A home on a file system that has become read-only, as kernels make one that is damaged: all can be read, nothing is lost, and what fails says why.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use graphdriver_core::{CreateOptions, ErrorKind, Graph, LayerApplyOptions, LayerId, MountOptions};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::backing::Backing;
use crate::configuration::Driver;
use crate::content;
use crate::store::{Store, fails, id};
use crate::tarball::{Entry, Tarball};

/// `mount -o remount,ro`: the file system itself.
pub fn remounted(store: &Store) {
    becomes_read_only(store, MsFlags::MS_REMOUNT);
}

/// `mount -o remount,bind,ro`: only where the home is seen.
pub fn bound(store: &Store) {
    becomes_read_only(store, MsFlags::MS_REMOUNT | MsFlags::MS_BIND);
}

fn becomes_read_only(store: &Store, remount: MsFlags) {
    let place = Place::new(store);
    let before = place.open(store);
    let [base, layer, empty] = ["base", "layer", "empty"].map(id);
    let archive = Tarball::of([Entry::file("file", "base"), Entry::file("other", content::bytes(1, 50_000))]);
    let apply = LayerApplyOptions::default();
    before.create_filled(&base, &CreateOptions::default(), &mut &*archive, &apply).unwrap();
    for child in [&layer, &empty] {
        before.create(child, &CreateOptions::on(&base)).unwrap();
    }
    let mounted = before.mount(&layer, &MountOptions::default()).unwrap();
    fs::write(mounted.path().join("file"), "edited").unwrap();
    mounted.unmount().unwrap();
    let expected = Told::by(&before, &layer, &base);

    // Left by a process that was killed.
    let leftover =
        place.root().join(store.configuration().driver_name()).join("tempdirs/temp-dir-left/0-layer");
    fs::create_dir_all(&leftover).unwrap();

    place.remount(remount | MsFlags::MS_RDONLY);
    for graph in [before.clone(), place.open(store)] {
        changes_are_refused(store, &graph, &archive);
        assert_eq!(Told::by(&graph, &layer, &base), expected);
        assert_eq!(graph.layers().unwrap(), [&base, &empty, &layer].map(Clone::clone));
        assert_eq!(graph.parent(&layer).unwrap().as_ref(), Some(&base));
        graph.status().unwrap();
        graph.metadata(&layer).unwrap();
        for (layer, contents) in [(&base, "base"), (&layer, "edited")] {
            let mount = graph.mount(layer, &MountOptions::read_only()).unwrap();
            assert_eq!(fs::read_to_string(mount.path().join("file")).unwrap(), contents);
            let refused = fs::write(mount.path().join("new"), "").unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
            mount.unmount().unwrap();
        }
    }
    let opened_read_only = place.open(store);

    place.remount(remount);
    for graph in [before, opened_read_only] {
        assert_eq!(Told::by(&graph, &layer, &base), expected);
        graph.create(&id("new"), &CreateOptions::on(&layer)).unwrap();
        let mount = graph.mount(&id("new"), &MountOptions::default()).unwrap();
        fs::write(mount.path().join("file"), "new").unwrap();
        mount.unmount().unwrap();
        graph.remove(&id("new")).unwrap();
    }
    drop(place.open(store));
    assert!(!leftover.exists());
}

fn changes_are_refused(store: &Store, graph: &Graph, archive: &[u8]) {
    let (base, new) = (id("base"), id("new"));
    let apply = LayerApplyOptions::default();
    let on_base = CreateOptions::on(&base);
    let mut refused = vec![
        fails(graph.create(&new, &CreateOptions::default()), ErrorKind::PermissionDenied),
        fails(graph.create(&new, &on_base), ErrorKind::PermissionDenied),
        fails(graph.create_filled(&new, &on_base, &mut &*archive, &apply), ErrorKind::PermissionDenied),
        fails(graph.apply(&id("empty"), &mut &*archive, &apply), ErrorKind::PermissionDenied),
        fails(graph.remove(&id("layer")), ErrorKind::PermissionDenied),
    ];
    if store.configuration().driver == Driver::Overlay && !store.configuration().keeps_images {
        refused.push(fails(graph.mount(&base, &MountOptions::default()), ErrorKind::PermissionDenied));
    }
    for message in refused {
        assert!(message.contains("remount it read-write"), "{message}");
        assert!(message.contains("Read-only file system"), "{message}");
    }
    assert!(!graph.exists(&new).unwrap());
}

/// What is told of a layer without a mount of one's own.
#[derive(Debug, PartialEq)]
struct Told {
    changes: Vec<String>,
    diff: Vec<u8>,
    diff_size: u64,
    usage: u64,
}

impl Told {
    fn by(graph: &Graph, layer: &LayerId, base: &LayerId) -> Self {
        let mut diff = Vec::new();
        let mut stream = graph.diff(layer, Some(base), &graphdriver_archive::IdMaps::default()).unwrap();
        std::io::copy(&mut stream, &mut diff).unwrap();
        stream.finish().unwrap();
        Self {
            changes: graph.changes(layer, Some(base)).unwrap().iter().map(ToString::to_string).collect(),
            diff,
            diff_size: graph.diff_size(layer, Some(base)).unwrap(),
            usage: graph.usage(layer).unwrap().bytes,
        }
    }
}

/// A root on a file system of its own; the run home is elsewhere.
struct Place {
    dir: PathBuf,
}

impl Place {
    fn new(store: &Store) -> Self {
        let place = Self { dir: store.dir().join("place") };
        fs::create_dir_all(place.root()).unwrap();
        // What a user namespace may mount.
        let backing = if store.configuration().in_user_namespace { Backing::Tmpfs } else { store.backing() };
        backing.mount_new(&place.root()).unwrap();
        place
    }

    fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    fn open(&self, store: &Store) -> Graph {
        store.configuration().open(&self.dir).unwrap_or_else(|error| panic!("{}", error.report()))
    }

    /// The file system is busy for as long as another case's copy of the mount namespace holds a mount that is gone here.
    fn remount(&self, flags: MsFlags) {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            match mount(None::<&str>, &self.root(), None::<&str>, flags, None::<&str>) {
                Err(Errno::EBUSY) if Instant::now() < end => thread::sleep(Duration::from_millis(10)),
                result => return result.unwrap(),
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        umount2(&self.root() as &Path, MntFlags::MNT_DETACH).unwrap();
    }
}
