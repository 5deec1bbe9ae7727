//! Limits of layers.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use graphdriver_archive::{IdMap, IdMaps, RootDir};
use graphdriver_core::project_quota::{ProjectQuota, QuotaCall};
use graphdriver_core::{
    CreateOptions, ErrorKind, Graph, LayerApplyOptions, LayerId, LayerKind, MountOptions, Quota,
};
use graphdriver_sys::file_attributes::{self, AttributeFlags};
use nix::sys::statvfs::statvfs;

use super::differ::Pull;
use crate::backing::Backing;
use crate::configuration::Driver;
use crate::store::{Store, fails, id};
use crate::tarball::{Entry, Tarball};
use crate::writer::{append, make_in, write_to};

const MIB: u64 = 1 << 20;

/// A limit stops the writer where there are limits; where there are none, a layer that is to have one is refused rather than made without.
pub fn set(store: &Store) {
    let has_quota = store.graph().capabilities().quota;
    if store.backing() != Backing::Here {
        let expected = store.backing().has_quota() || store.backing() == Backing::Zfs;
        assert_eq!(has_quota, expected && !store.configuration().in_user_namespace);
    }
    if has_quota {
        stops_the_writer(store);
    } else {
        is_refused(store);
    }
    let read_only = CreateOptions { quota: bytes(MIB), ..CreateOptions::default() };
    let message = fails(store.graph().create(&id("fixed"), &read_only), ErrorKind::InvalidArgument);
    assert!(message.contains("read-write layers only"), "{message}");
    assert!(!store.graph().exists(&id("fixed")).unwrap());
}

fn stops_the_writer(store: &Store) {
    let base = store.fill("base", None, &Tarball::of([Entry::file("file", "base")]));
    let layer = limited(store.graph(), "limited", bytes(50 * MIB), Some(&base));
    let mount = store.graph().mount(&layer, &MountOptions::default()).unwrap();
    let dir = open_to_all(mount.path());
    write_to(&dir, "half", 25 * MIB).assert_unlimited();
    let progress = write_to(&dir, "too much", 50 * MIB);
    progress.assert_limited();
    assert!((10 * MIB..26 * MIB).contains(&progress.done), "{progress:?}");
    // What the programs in the layer see of it.
    let seen = statvfs(mount.path()).unwrap();
    let size = seen.blocks() * seen.fragment_size();
    if store.configuration().driver == Driver::Zfs {
        // What is used and what is left, the one counted when it is written.
        assert!((40 * MIB..=55 * MIB).contains(&size), "{size}");
    } else {
        assert_eq!(size, 50 * MIB);
    }
    fs::remove_file(dir.join("half")).unwrap();
    if store.configuration().driver == Driver::Zfs {
        crate::zfs::write_out();
    }
    write_to(&dir, "again", 10 * MIB).assert_unlimited();
    if store.configuration().driver == Driver::Overlay || store.backing() == Backing::XfsQuota {
        // Overlay writes with less than the mounter's privileges, so that ext4 limits root too.
        append(&dir.join("by root"), 50 * MIB).assert_limited();
    }
    mount.unmount().unwrap();
}

fn is_refused(store: &Store) {
    let before = store.files();
    for quota in [bytes(50 * MIB), Quota { bytes: None, inodes: Some(10) }] {
        let options = CreateOptions { quota, ..writable() };
        let message = fails(store.graph().create(&id("limited"), &options), ErrorKind::NotSupported);
        assert!(message.contains("cannot be limited: "), "{message}");
        let reasons = reasons(store);
        assert!(reasons.iter().any(|reason| message.contains(reason)), "{message}: none of {reasons:?}");
        assert!(!store.graph().exists(&id("limited")).unwrap());
    }
    store.assert_files(&before);
    let unlimited = CreateOptions { quota: bytes(0), ..writable() };
    store.graph().create(&id("unlimited"), &unlimited).unwrap();
    for option in ["size=1g", "inodes=1000"] {
        let elsewhere = store.dir().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        let message =
            fails(store.configuration().open_with(&elsewhere, &[option]), ErrorKind::InvalidArgument);
        assert!(message.contains("cannot be limited"), "{message}");
        assert!(!elsewhere.join("root").exists(), "a home that cannot be used was made");
        fs::remove_dir(&elsewhere).unwrap();
    }
}

/// What may be in the way on this file system.
fn reasons(store: &Store) -> &'static [&'static str] {
    const OFF: &str = "mounted without project quotas";
    const UNPRIVILEGED: &str = "CAP_SYS_ADMIN";
    if store.configuration().in_user_namespace {
        return &["from a user namespace"];
    }
    match store.backing() {
        Backing::Tmpfs => &["tmpfs has no project quotas; put the root on xfs or ext4"],
        Backing::Btrfs => &["btrfs has no project quotas; put the root on xfs or ext4"],
        Backing::Xfs => &["this kernel has no quotas on xfs", OFF],
        Backing::Ext4 => &["this kernel has no quotas on ext4", OFF],
        Backing::Zfs
        | Backing::XfsQuota
        | Backing::Ext4Quota
        | Backing::BtrfsQuota
        | Backing::BtrfsSimpleQuota => &[],
        Backing::Here => {
            &["no project quotas", "no quotas on", OFF, UNPRIVILEGED, "does not limit", "user namespace"]
        }
    }
}

pub fn of_inodes(store: &Store) {
    let layer = limited(store.graph(), "limited", Quota { bytes: None, inodes: Some(100) }, None);
    store.edit(&layer, |root| {
        let dir = open_to_all(root);
        let progress = make_in(&dir, 200);
        progress.assert_limited();
        // The driver's own files and the kernel's count too.
        assert!((80..100).contains(&progress.done), "{progress:?}");
        fs::remove_file(dir.join("file-0")).unwrap();
        fs::remove_file(dir.join("file-1")).unwrap();
        // Space has no limit.
        write_to(&dir, "large", 20 * MIB).assert_unlimited();
    });
    assert_eq!(store.graph().usage(&layer).unwrap().inodes, 99);
}

/// What a layer uses is what is counted, and is limited.
pub fn usage(store: &Store) {
    let layer = limited(store.graph(), "limited", bytes(50 * MIB), None);
    // The first mount leaves directories of the kernel's.
    store.edit(&layer, |_| ());
    let before = store.graph().usage(&layer).unwrap();
    store.edit(&layer, |root| {
        append(&root.join("large"), 10 * MIB).assert_unlimited();
        for number in 0..9 {
            fs::write(root.join(format!("empty-{number}")), "").unwrap();
        }
    });
    let after = store.graph().usage(&layer).unwrap();
    assert_eq!(after.inodes, before.inodes + 10);
    assert!((10 * MIB..11 * MIB).contains(&(after.bytes - before.bytes)), "{before:?} {after:?}");
    assert_eq!(projects(store).usage(&dir_of(store, &layer)).unwrap(), Some(after));
    // Layers without limits are counted as well, and none of them with another.
    let other = store.create("other", Some(&layer));
    assert_ne!(project_of(store, &other), 0);
    let before = store.graph().usage(&other).unwrap();
    store.edit(&other, |root| append(&root.join("more"), 2 * MIB).assert_unlimited());
    let grown = store.graph().usage(&other).unwrap().bytes - before.bytes;
    assert!((2 * MIB..3 * MIB).contains(&grown), "{grown}");
    assert_eq!(store.graph().usage(&layer).unwrap(), after);
}

pub fn after_reopen(store: &Store) {
    let first = limited(store.graph(), "first", bytes(20 * MIB), None);
    let again = store.reopen();
    let second = limited(&again, "second", bytes(30 * MIB), None);
    assert_ne!(project_of(store, &first), project_of(store, &second));
    for (layer, limit) in [(&first, 20 * MIB), (&second, 30 * MIB)] {
        assert_eq!(projects(store).limits(&dir_of(store, layer)).unwrap(), Some(bytes(limit)));
        let mount = again.mount(layer, &MountOptions::default()).unwrap();
        let progress = write_to(&open_to_all(mount.path()), "file", 40 * MIB);
        mount.unmount().unwrap();
        progress.assert_limited();
        assert!((limit - MIB..=limit).contains(&progress.done), "{progress:?}");
    }
}

pub fn ids_are_freed(store: &Store) {
    let first = limited(store.graph(), "first", bytes(MIB), None);
    let kept = limited(store.graph(), "kept", bytes(MIB), None);
    let project = project_of(store, &first);
    store.edit(&first, |root| fs::write(root.join("file"), "x").unwrap());
    let removal = store.graph().remove_deferred(&first).unwrap();
    // What is still to be deleted counts still.
    let meanwhile = limited(&store.reopen(), "meanwhile", bytes(MIB), None);
    let all = BTreeSet::from([&kept, &meanwhile].map(|layer| project_of(store, layer)));
    assert!(all.len() == 2 && !all.contains(&project), "{project} {all:?}");
    removal.finish().unwrap();
    let layer = reuse(store, project);
    assert_eq!(projects(store).limits(&dir_of(store, &layer)).unwrap(), Some(Quota::default()));
    store.edit(&layer, |root| append(&root.join("file"), 5 * MIB).assert_unlimited());
}

/// Makes a layer that has the project of a removed one. The file system may take its time with the last of the removed inodes.
fn reuse(store: &Store, project: u32) -> LayerId {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        // Who has just opened the home begins with the lowest number that is free.
        let layer = id("reused");
        store.reopen().create(&layer, &writable()).unwrap();
        if project_of(store, &layer) == project {
            return layer;
        }
        assert!(Instant::now() < deadline, "project {project} is never used again");
        store.remove(&layer);
        thread::sleep(Duration::from_millis(20));
    }
}

/// Many at once, of one opening and of several, as if they were processes.
pub fn ids_differ(store: &Store) {
    const THREADS: usize = 8;
    const LAYERS: usize = 10;
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let graph = store.opening(thread);
            scope.spawn(move || {
                for number in 0..LAYERS {
                    limited(&graph, &format!("layer-{thread}-{number}"), bytes(MIB), None);
                }
            });
        }
    });
    let layers = store.graph().layers().unwrap();
    let all: BTreeSet<_> = layers.iter().map(|layer| project_of(store, layer)).collect();
    assert_eq!((layers.len(), all.len()), (THREADS * LAYERS, THREADS * LAYERS));
    assert!(!all.contains(&0));
}

pub fn defaults(store: &Store) {
    let graph = store.configuration().open_with(store.dir(), &["size=20m", "inodes=500"]).unwrap();
    let of = |quota, name: &str| {
        let layer = limited(&graph, name, quota, None);
        projects(store).limits(&dir_of(store, &layer)).unwrap().unwrap()
    };
    let quota = |bytes, inodes| Quota { bytes, inodes };
    for (index, (own, expected)) in [
        (quota(None, None), quota(Some(20 * MIB), Some(500))),
        (quota(Some(30 * MIB), None), quota(Some(30 * MIB), Some(500))),
        (quota(Some(0), Some(600)), quota(None, Some(600))),
        (quota(Some(MIB), Some(1000)), quota(Some(MIB), Some(1000))),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(of(own, &format!("layer-{index}")), expected, "{own:?}");
    }
    let fixed = id("fixed");
    graph.create(&fixed, &CreateOptions::default()).unwrap();
    assert_eq!(projects(store).limits(&dir_of(store, &fixed)).unwrap(), None);
    // Limits stay with the layer.
    assert_eq!(store.graph().capabilities().quota, graph.capabilities().quota);
    let progress = store.edit(&id("layer-0"), |root| write_to(&open_to_all(root), "file", 30 * MIB));
    progress.assert_limited();
}

/// What is unpacked counts, wherever it was unpacked.
pub fn of_filled_layers(store: &Store) {
    let archive = Tarball::of([Entry::file("file", "x".repeat(10 << 20)), Entry::dir("dir")]);
    let fill = |layer: &LayerId, limit: u64| {
        let options = CreateOptions { quota: bytes(limit), ..writable() };
        store.graph().create_filled(layer, &options, &mut &*archive, &LayerApplyOptions::default())
    };
    let staged = id("staged");
    fill(&staged, 12 * MIB).unwrap();
    let existing = limited(store.graph(), "existing", bytes(12 * MIB), None);
    store.apply(&existing, &archive);
    let pulled = id("pulled");
    let options = CreateOptions { quota: bytes(12 * MIB), ..writable() };
    let driver = store.graph().driver();
    let power = driver.staged_apply().expect("a driver with quotas fills layers out of sight");
    let mut pull = Pull::of(archive.clone());
    let (layer, _) = power.stage_with(&options, &mut pull, &LayerApplyOptions::default()).unwrap();
    layer.commit(&pulled).unwrap();
    for layer in [&staged, &existing, &pulled] {
        let usage = store.graph().usage(layer).unwrap();
        assert!((10 * MIB..11 * MIB).contains(&usage.bytes), "{usage:?}");
        store.edit(layer, |root| {
            assert_eq!(fs::metadata(root.join("file")).unwrap().len(), 10 * MIB);
            write_to(&open_to_all(root), "more", 10 * MIB).assert_limited();
        });
    }
    // Root, who unpacks, is not limited by ext4.
    if store.backing() == Backing::XfsQuota {
        let before = store.files();
        let message = fails(fill(&id("small"), 5 * MIB), ErrorKind::NoSpace);
        assert!(message.contains("limited to 5MiB"), "{message}");
        let options = CreateOptions { quota: bytes(5 * MIB), ..writable() };
        let staged = power.stage_with(&options, &mut pull, &LayerApplyOptions::default());
        let message = fails(staged, ErrorKind::NoSpace);
        assert!(message.contains("limited to 5MiB"), "{message}");
        let empty = limited(store.graph(), "empty", bytes(5 * MIB), None);
        let applied = store.graph().apply(&empty, &mut &*archive, &LayerApplyOptions::default());
        let message = fails(applied, ErrorKind::NoSpace);
        assert!(message.contains("limited to 5MiB"), "{message}");
        store.edit(&empty, |root| assert_eq!(fs::read_dir(root).unwrap().count(), 0));
        store.remove(&empty);
        store.assert_files(&before);
    }
    for layer in [staged, existing, pulled] {
        store.remove(&layer);
    }
}

/// What is rewritten for other ids counts, and is put together from several places.
pub fn after_id_map(store: &Store) {
    let archive = Tarball::of([Entry::file("file", "x".repeat(5 << 20)), Entry::dir("dir")]);
    let base = store.fill("base", None, &archive);
    let layer = limited(store.graph(), "limited", bytes(20 * MIB), Some(&base));
    store.edit(&layer, |root| append(&root.join("own"), MIB).assert_unlimited());
    let ids = vec![IdMap { container_id: 0, host_id: 1000, size: 100 }];
    let maps = IdMaps::new(ids.clone(), ids).unwrap();
    store.graph().update_layer_id_map(&layer, &IdMaps::default(), &maps).unwrap();
    store.edit(&layer, |root| {
        for name in ["file", "own", "dir"] {
            assert_eq!(fs::metadata(root.join(name)).unwrap().uid(), 1000, "{name}");
        }
        let usage = store.graph().usage(&layer).unwrap();
        assert!((6 * MIB..8 * MIB).contains(&usage.bytes), "{usage:?}");
        write_to(&open_to_all(root), "more", 20 * MIB).assert_limited();
    });
    store.remove(&layer);
}

/// A home that is a project itself, as administrators set it up.
pub fn in_a_project(store: &Store) {
    const PROJECT: u32 = 770_000;
    let dir = store.dir().join("project");
    DirBuilder::new().mode(0o700).create(&dir).unwrap();
    let home = dir.join("root").join(store.configuration().driver_name());
    let open_dir = |path: &Path| File::open(path).unwrap();
    fs::create_dir(dir.join("root")).unwrap();
    let root = open_dir(&dir.join("root"));
    let attributes = file_attributes::get(&root).unwrap();
    let inheriting = attributes.flags() | AttributeFlags::PROJECT_INHERIT;
    file_attributes::set(&root, &attributes.with_project(PROJECT).with_flags(inheriting)).unwrap();

    let graph = store.configuration().open(&dir).unwrap();
    let project = |layer: &LayerId| {
        let path = layer_path(&home, store.configuration().driver, layer);
        file_attributes::get(open_dir(&path)).unwrap().project()
    };
    let fixed = id("fixed");
    graph.create(&fixed, &CreateOptions::default()).unwrap();
    graph.create(&id("free"), &writable()).unwrap();
    // As long as nobody asks for a limit, the administrator's holds for all.
    assert_eq!([project(&fixed), project(&id("free"))], [PROJECT; 2]);
    assert!(graph.usage(&id("free")).unwrap().inodes < 5, "not what the whole project uses");
    let first = limited(&graph, "first", bytes(5 * MIB), Some(&fixed));
    assert_eq!(project(&first), PROJECT + 1);
    let second = limited(&graph, "second", Quota::default(), Some(&fixed));
    assert_eq!(project(&second), PROJECT + 2);
    assert!(
        !file_attributes::get(open_dir(&home)).unwrap().flags().contains(AttributeFlags::PROJECT_INHERIT)
    );
    let mount = graph.mount(&first, &MountOptions::default()).unwrap();
    write_to(&open_to_all(mount.path()), "file", 10 * MIB).assert_limited();
    mount.unmount().unwrap();
    for layer in [first, second, id("free"), fixed] {
        graph.remove(&layer).unwrap();
    }
}

/// The way of kernels that take no file for it.
pub fn by_device(store: &Store) {
    let home = store.home();
    let layers = layers_path(&home, store.configuration().driver);
    let projects = ProjectQuota::open_by(QuotaCall::Device, &home, &layers).unwrap();
    let path = home.join("tempdirs/limited");
    fs::create_dir(&path).unwrap();
    let dir = RootDir::open(&path).unwrap();
    assert_eq!(projects.limits(&dir).unwrap(), None);
    let quota = Quota { bytes: Some(5 * MIB), inodes: Some(10) };
    projects.assign(&dir, quota).unwrap();
    assert_eq!(projects.limits(&dir).unwrap(), Some(quota));
    write_to(&open_to_all(&path), "file", 10 * MIB).assert_limited();
    let usage = projects.usage(&dir).unwrap().unwrap();
    assert!(usage.inodes == 3 && (4 * MIB..=5 * MIB).contains(&usage.bytes), "{usage:?}");
    fails(projects.assign(&dir, quota), ErrorKind::InvalidArgument);
    projects.lift(&dir).unwrap();
    write_to(&open_to_all(&path), "file", 10 * MIB).assert_unlimited();
    dir.remove_contents().unwrap();
    fs::remove_dir(&path).unwrap();
}

fn bytes(bytes: u64) -> Quota {
    Quota { bytes: Some(bytes), inodes: None }
}

fn writable() -> CreateOptions {
    CreateOptions { kind: LayerKind::ReadWrite, ..CreateOptions::default() }
}

#[track_caller]
fn limited(graph: &Graph, name: &str, quota: Quota, parent: Option<&LayerId>) -> LayerId {
    let layer = id(name);
    graph.create(&layer, &CreateOptions { quota, parent: parent.cloned(), ..writable() }).unwrap();
    layer
}

/// A directory in the mounted layer that everybody may write to.
fn open_to_all(root: &Path) -> PathBuf {
    let dir = root.join("open to all");
    if !dir.exists() {
        fs::create_dir(&dir).unwrap();
    }
    fs::set_permissions(&dir, Permissions::from_mode(0o777)).unwrap();
    dir
}

/// The projects as another program would see them.
fn projects(store: &Store) -> ProjectQuota {
    let home = store.home();
    ProjectQuota::open(&home, &layers_path(&home, store.configuration().driver)).unwrap()
}

fn project_of(store: &Store, layer: &LayerId) -> u32 {
    file_attributes::get(dir_of(store, layer)).unwrap().project()
}

/// Everything that is kept for the layer.
fn dir_of(store: &Store, layer: &LayerId) -> RootDir {
    RootDir::open(layer_path(&store.home(), store.configuration().driver, layer)).unwrap()
}

fn layer_path(home: &Path, driver: Driver, layer: &LayerId) -> PathBuf {
    layers_path(home, driver).join(layer)
}

fn layers_path(home: &Path, driver: Driver) -> PathBuf {
    match driver {
        Driver::Aufs => home.join("diff"),
        Driver::Btrfs => home.join("subvolumes"),
        Driver::HardLink | Driver::Overlay => home.to_owned(),
        Driver::Vfs => home.join("dir"),
        Driver::Zfs => home.join("graph"),
    }
}
