//! Layers whose files all have one mode on disk: `force_mask`.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::ffi::CStr;
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use graphdriver_core::{
    CreateOptions, ErrorKind, Graph, IdMap, IdMaps, LayerApplyOptions, LayerKind, MountOptions,
};
use graphdriver_sys::xattr;
use support::{Store, base, id, on};
use tar::{Builder, EntryType, Header};

const PROGRAM: &str = "mount_program=/usr/bin/fuse-overlayfs";

/// Path, type, owner and group, mode: what an archive says, and a mount has to.
type Said = (&'static str, EntryType, u64, u32);

const LAYER: [Said; 6] = [
    ("bin/", EntryType::Directory, 3, 0o1777),
    ("bin/sh", EntryType::Symlink, 0, 0o777),
    ("bin/su", EntryType::Regular, 0, 0o4755),
    ("null", EntryType::Char, 0, 0o666),
    ("pipe", EntryType::Fifo, 7, 0o640),
    ("secret", EntryType::Regular, 1000, 0o600),
];

fn layer(entries: &[Said]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (path, kind, owner, mode) in entries {
        let mut header = Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_uid(*owner);
        header.set_gid(*owner);
        header.set_mode(*mode);
        header.set_mtime(1_700_000_000);
        if *kind == EntryType::Symlink {
            header.set_link_name("su").unwrap();
        }
        if *kind == EntryType::Char {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        let contents = if *kind == EntryType::Regular { *path } else { "" };
        header.set_size(contents.len() as u64);
        builder.append_data(&mut header, path, contents.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn open(store: &Store, mask: &str) -> Graph {
    store.open_with_options(&[PROGRAM, &format!("force_mask={mask}")])
}

fn fill(graph: &Graph, layer: &str, create: &CreateOptions, archive: &[u8], record: bool) {
    let options = LayerApplyOptions { skip_record: !record, ..LayerApplyOptions::default() };
    graph.create_filled(&id(layer), create, &mut &*archive, &options).unwrap();
}

/// What a tree says about the files of [`LAYER`].
fn assert_says(root: &Path, entries: &[Said]) {
    for (path, kind, owner, mode) in entries {
        let found = fs::symlink_metadata(root.join(path.trim_end_matches('/'))).unwrap();
        assert_eq!((u64::from(found.uid()), u64::from(found.gid())), (*owner, *owner), "{path}");
        let is_kind = match kind {
            EntryType::Directory => found.is_dir(),
            EntryType::Symlink => found.is_symlink(),
            // fuse-overlayfs 1.10 shows the file that stands for it.
            EntryType::Char | EntryType::Fifo => !found.is_dir(),
            _ => found.is_file() && fs::read(root.join(path)).unwrap() == path.as_bytes(),
        };
        assert!(is_kind, "{path}: {:?}", found.file_type());
        assert_eq!(found.mode() & 0o7777, *mode, "{path}");
    }
}

/// What an archive says.
fn said(archive: &[u8]) -> Vec<(String, EntryType, u64, u32)> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let attributes: Vec<_> = entry
            .pax_extensions()
            .unwrap()
            .into_iter()
            .flatten()
            .map(|extension| extension.unwrap().key().unwrap().to_owned())
            .collect();
        assert!(!attributes.iter().any(|key| key.contains("user.containers")), "{attributes:?}");
        let header = entry.header();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        (path, header.entry_type(), header.uid().unwrap(), header.mode().unwrap())
    });
    entries.collect()
}

fn diff(graph: &Graph, layer: &str, parent: Option<&str>) -> Vec<u8> {
    let mut diff = graph.diff(&id(layer), parent.map(id).as_ref(), &IdMaps::default()).unwrap();
    let mut archive = Vec::new();
    diff.read_to_end(&mut archive).unwrap();
    diff.finish().unwrap();
    archive
}

fn note(path: &Path) -> String {
    note_in(path, c"user.containers.override_stat")
}

fn note_in(path: &Path, name: &CStr) -> String {
    let value = xattr::fget(fs::File::open(path).unwrap(), name).unwrap();
    String::from_utf8(value.unwrap()).unwrap()
}

#[test]
#[ignore = "needs root"]
fn files_have_the_mask_on_disk_and_their_own_mode_in_mounts_and_diffs() {
    for (mask, mode) in [("shared", 0o755), ("private", 0o700), ("0750", 0o750)] {
        let store = Store::new();
        let graph = open(&store, mask);
        fill(&graph, "layer", &base(), &layer(&LAYER), false);
        let on_disk = store.home().join("layer/diff");
        for (path, kind, owner, real) in LAYER {
            let found = fs::symlink_metadata(on_disk.join(path)).unwrap();
            assert_eq!((found.uid(), found.gid()), (0, 0), "{path}");
            if kind == EntryType::Symlink {
                continue;
            }
            assert_eq!(found.mode() & 0o7777, mode, "{path}");
            assert!(found.is_dir() || found.is_file(), "{path}");
            let note = note(&on_disk.join(path));
            assert!(note.starts_with(&format!("{owner}:{owner}:{real:04o}:")), "{path}: {note}");
        }
        // Nothing in the archive is about the root, so it is as that of any other layer.
        assert_eq!(
            (note(&on_disk), fs::metadata(&on_disk).unwrap().mode() & 0o7777),
            ("0:0:0555:dir".into(), mode)
        );
        let mount = graph.mount(&id("layer"), &MountOptions::default()).unwrap();
        assert_says(mount.path(), &LAYER);
        assert_eq!(fs::metadata(mount.path()).unwrap().mode() & 0o7777, 0o555);
        // The program would lose what the layer was filled with.
        let error = fs::write(mount.path().join("new"), "").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        mount.unmount().unwrap();
        assert_eq!(
            said(&diff(&graph, "layer", None)),
            LAYER.map(|(path, kind, owner, mode)| (path.to_owned(), kind, owner, mode))
        );
    }
}

#[test]
#[ignore = "needs root"]
fn the_archive_comes_back_byte_for_byte() {
    let store = Store::new();
    let graph = open(&store, "shared");
    fill(&graph, "layer", &base(), &layer(&LAYER), true);
    assert!(diff(&graph, "layer", None) == layer(&LAYER), "another archive");
}

#[test]
#[ignore = "needs root"]
fn what_a_container_changes_is_noted_too() {
    let store = Store::new();
    let graph = open(&store, "private");
    fill(&graph, "base", &base(), &layer(&LAYER), false);
    graph.create(&id("top"), &CreateOptions { kind: LayerKind::ReadWrite, ..on("base") }).unwrap();
    let mount = graph.mount(&id("top"), &MountOptions::default()).unwrap();
    assert_says(mount.path(), &LAYER);
    let secret = mount.path().join("secret");
    // In this order: version 1.10 forgets the owner when the mode is set.
    fs::set_permissions(&secret, Permissions::from_mode(0o604)).unwrap();
    chown(&secret, Some(42), Some(43)).unwrap();
    fs::write(mount.path().join("bin/new"), "new").unwrap();
    let shown =
        [("bin/", EntryType::Directory), ("bin/new", EntryType::Regular), ("secret", EntryType::Regular)]
            .map(|(path, kind)| {
                let found = fs::metadata(mount.path().join(path)).unwrap();
                (path.to_owned(), kind, u64::from(found.uid()), found.mode() & 0o7777)
            });
    mount.unmount().unwrap();
    // The program's own, which holds instead of what was copied from below.
    let note = note_in(&store.home().join("top/diff/secret"), c"user.fuseoverlayfs.override_stat");
    assert_eq!(note, "42:43:100604");
    let changes: Vec<String> =
        graph.changes(&id("top"), Some(&id("base"))).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(changes, ["C /bin", "A /bin/new", "C /secret"]);
    assert_eq!(said(&diff(&graph, "top", Some("base"))), shown);
}

#[test]
#[ignore = "needs root"]
fn layers_with_and_without_mask_lie_on_each_other() {
    let store = Store::new();
    fill(&open(&store, "private"), "base", &base(), &layer(&LAYER), false);
    // A directory that the archive does not describe is as it is below.
    let child = layer(&[("bin/ls", EntryType::Regular, 5, 0o711)]);
    let graph = store.open_with_options(&[PROGRAM]);
    fill(&graph, "plain", &on("base"), &child, false);
    let plain = store.home().join("plain/diff");
    let looks =
        |path: &Path| (fs::metadata(path).unwrap().mode() & 0o7777, fs::metadata(path).unwrap().uid());
    assert_eq!([looks(&plain), looks(&plain.join("bin"))], [(0o555, 0), (0o1777, 3)]);
    assert_eq!(said(&diff(&graph, "plain", Some("base"))).last().unwrap().3, 0o711);
    let changes = graph.changes(&id("plain"), Some(&id("base"))).unwrap();
    assert_eq!(changes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["C /bin", "A /bin/ls"]);
    let graph = open(&store, "private");
    fill(&graph, "masked", &on("plain"), &child, false);
    let masked = store.home().join("masked/diff");
    assert_eq!((note(&masked), note(&masked.join("bin"))), ("0:0:0555:dir".into(), "3:3:1777:dir".into()));
    let mount = graph.mount(&id("masked"), &MountOptions::default()).unwrap();
    assert_says(mount.path(), &LAYER);
    assert_eq!(looks(&mount.path().join("bin/ls")), (0o711, 5));
    mount.unmount().unwrap();
    // Owners are in the notes, where nothing rewrites them.
    let maps = IdMaps::new(
        vec![IdMap { container_id: 0, host_id: 100_000, size: 65_536 }],
        vec![IdMap { container_id: 0, host_id: 100_000, size: 65_536 }],
    );
    let error = graph.update_layer_id_map(&id("masked"), &IdMaps::default(), &maps.unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSupported);
    assert!(error.to_string().contains("force_mask"), "{error}");
}

#[test]
#[ignore = "needs root"]
fn a_mask_without_a_program_that_looks_behind_it_is_refused() {
    let store = Store::new();
    let error = store.try_open(&["force_mask=shared"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSupported);
    assert!(error.to_string().contains("mount_program=/usr/bin/fuse-overlayfs"), "{error}");
    // Nor is a single layer filled so.
    let graph = store.open();
    let options = LayerApplyOptions { force_mask: Some(0o700), ..LayerApplyOptions::default() };
    let error = graph.create_filled(&id("layer"), &base(), &mut &*layer(&LAYER), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSupported);
    assert!(graph.layers().unwrap().is_empty());
}
