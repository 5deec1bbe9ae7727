//! Everything about a file but its contents: through archives, copies and mounts.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use graphdriver_sys::xattr::{self, SetFlags};
use nix::sys::stat::Mode;

use crate::configuration::Driver;
use crate::store::Store;
use crate::tarball::{Entry, MTIME, Tarball};
use crate::tree::{Times, Tree};

/// Fills a layer, makes a child whose changed copy of everything goes through an archive, and checks that all three show the same.
fn round_trip(store: &Store, entries: impl IntoIterator<Item = Entry>) -> Tree {
    let base = store.fill("base", None, &Tarball::of(entries));
    let tree = store.tree(&base, Times::Seconds);
    let child = store.create("child", Some(&base));
    store.tree(&child, Times::Seconds).assert_same(&tree);
    let again = store.fill("again", None, &store.diff(&child, None));
    store.tree(&again, Times::Seconds).assert_same(&tree);
    assert_eq!(store.changes(&child, Some(&base)), [""; 0]);
    tree
}

pub fn hard_links(store: &Store) {
    let tree = round_trip(
        store,
        [
            Entry::dir("dir"),
            Entry::file("dir/file", "linked"),
            Entry::hard_link("first", "dir/file"),
            Entry::symlink("symlink", "nowhere"),
            Entry::hard_link("link to symlink", "symlink"),
        ],
    );
    assert_eq!(tree.node("dir/file").link, Some("dir/file".into()));
    assert_eq!(tree.node("first").link, Some("dir/file".into()));
    assert_eq!(tree.contents("first"), "linked");
    assert_eq!(tree.node("link to symlink").link, Some("link to symlink".into()));
    // A link more, and a link broken, are changes that an archive carries.
    let base = crate::store::id("base");
    let edited = store.create("edited", Some(&base));
    store.edit(&edited, |root| {
        fs::hard_link(root.join("dir/file"), root.join("third")).unwrap();
        fs::remove_file(root.join("first")).unwrap();
        fs::write(root.join("first"), "alone").unwrap();
    });
    let copy = store.create("copy", Some(&base));
    store.apply(&copy, &store.diff(&edited, Some(&base)));
    let tree = store.tree(&copy, Times::Seconds);
    assert_eq!((tree.contents("first").as_str(), &tree.node("first").link), ("alone", &None));
    assert_eq!(tree.contents("third"), "linked");
}

pub fn user_xattrs(store: &Store) {
    let binary = [0, 255, 10, 0];
    let tree = round_trip(
        store,
        [
            Entry::dir("dir").xattr("user.dir", b"of a directory"),
            Entry::file("dir/file", "").xattr("user.text", b"value").xattr("user.binary", &binary),
            // What would hide or redirect files never comes from outside.
            Entry::dir("hostile")
                .xattr("user.overlay.opaque", b"y")
                .xattr("trusted.overlay.redirect", b"/etc"),
        ],
    );
    assert_eq!(tree.node("dir").xattr("user.dir"), b"of a directory");
    assert_eq!(tree.node("dir/file").xattr("user.text"), b"value");
    assert_eq!(tree.node("dir/file").xattr("user.binary"), binary);
    assert_eq!(tree.node("hostile").xattrs.len(), 0);
    let base = crate::store::id("base");
    let edited = store.create("edited", Some(&base));
    store.edit(&edited, |root| {
        let dir = File::open(root).unwrap();
        xattr::set_at(&dir, "dir", "user.dir", b"changed", SetFlags::empty()).unwrap();
    });
    assert_eq!(store.changes(&edited, Some(&base)), ["C /dir"]);
    let copy = store.create("copy", Some(&base));
    store.apply(&copy, &store.diff(&edited, Some(&base)));
    assert_eq!(store.tree(&copy, Times::Seconds).node("dir").xattr("user.dir"), b"changed");
}

/// `cap_net_raw+ep` in the second revision, `struct vfs_cap_data` of linux/capability.h.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

pub fn file_capabilities(store: &Store) {
    let tree =
        round_trip(store, [Entry::file("ping", "ELF").mode(0o755).xattr("security.capability", &CAPABILITY)]);
    assert_eq!(tree.node("ping").xattr("security.capability"), CAPABILITY);
}

pub fn owners_and_modes(store: &Store) {
    let tree = round_trip(
        store,
        [
            Entry::dir("set-id").owner(3, 4).mode(0o7775),
            Entry::file("set-id/file", "").owner(5, 6).mode(0o6711).xattr("security.capability", &CAPABILITY),
            Entry::symlink("symlink", "nowhere").owner(7, 8),
            Entry::file("closed", "").owner(65_000, 65_000).mode(0),
        ],
    );
    for (path, uid, gid) in
        [("set-id", 3, 4), ("set-id/file", 5, 6), ("symlink", 7, 8), ("closed", 65_000, 65_000)]
    {
        assert_eq!((tree.node(path).uid, tree.node(path).gid), (uid, gid), "{path}");
    }
    let modes = ["set-id", "set-id/file", "closed"].map(|path| tree.node(path).permissions());
    assert_eq!(modes, [0o7775, 0o6711, 0]);
    assert_eq!(tree.node("set-id/file").xattr("security.capability"), CAPABILITY);
}

/// What its owner may not write to, as some images have it, can be made and replaced all the same by who may override modes.
pub fn read_only_files(store: &Store) {
    let archive = Tarball::of([
        Entry::dir("closed").mode(0o555),
        Entry::file("closed/file", "first"),
        Entry::dir("closed/inner").mode(0o500),
        Entry::file("closed/inner/file", "").mode(0o400).xattr("user.text", b"value"),
    ]);
    let base = store.fill("base", None, &archive);
    let tree = store.tree(&base, Times::Seconds);
    assert_eq!(["closed", "closed/inner"].map(|path| tree.node(path).permissions()), [0o555, 0o500]);
    assert_eq!(tree.node("closed/inner/file").xattr("user.text"), b"value");
    let child = store.fill("child", Some(&base), &Tarball::of([Entry::file("closed/file", "second")]));
    assert_eq!(store.tree(&child, Times::Seconds).contents("closed/file"), "second");
    store.remove(&child);
    store.remove(&base);
}

pub fn times(store: &Store) {
    let tree = round_trip(
        store,
        [
            Entry::dir("dir"),
            Entry::file("dir/file", "data"),
            Entry::symlink("dir/link", "file"),
            Entry::dir("dir/sub"),
        ],
    );
    let seconds = i64::try_from(MTIME).unwrap();
    for path in ["dir", "dir/file", "dir/link", "dir/sub"] {
        assert_eq!(tree.node(path).mtime, (seconds, 0), "{path}: entries made later must not move it");
    }
    // Before 1970 and beyond 32 bits, as far as the file system goes: at least what it keeps must travel.
    let base = crate::store::id("base");
    let child = store.create("odd", Some(&base));
    let moments =
        [UNIX_EPOCH - Duration::from_secs(1_000_000), UNIX_EPOCH + Duration::from_secs(5_000_000_000)];
    let kept = store.edit(&child, |root| moments.map(|moment| store_time(&root.join("dir/file"), moment)));
    let tree = store.tree(&store.fill("odd-again", None, &store.diff(&child, None)), Times::Seconds);
    assert_eq!(tree.node("dir/file").mtime.0, kept[1]);
}

fn store_time(path: &Path, moment: std::time::SystemTime) -> i64 {
    File::open(path).unwrap().set_times(FileTimes::new().set_modified(moment)).unwrap();
    path.metadata().unwrap().mtime()
}

pub fn fifos(store: &Store) {
    let tree = round_trip(store, [Entry::fifo("fifo")]);
    assert_eq!(tree.node("fifo").mode, 0o010_640);
    let base = crate::store::id("base");
    let child = store.create("second-child", Some(&base));
    store.edit(&child, |root| nix::unistd::mkfifo(&root.join("new"), Mode::S_IRWXU).unwrap());
    // Nothing may open it for reading, which would wait for a writer for ever.
    assert_eq!(store.changes(&child, Some(&base)), ["A /new"]);
    let copy = store.create("copy", Some(&base));
    store.apply(&copy, &store.diff(&child, Some(&base)));
    assert_eq!(store.tree(&copy, Times::Seconds).node("new").mode, 0o010_700);
}

pub fn devices(store: &Store) {
    let tree = round_trip(
        store,
        [Entry::char_device("null", 1, 3), Entry::block_device("disk", 7, 200).owner(0, 6)],
    );
    assert_eq!((tree.node("null").mode, tree.node("null").rdev), (0o020_660, nix::sys::stat::makedev(1, 3)));
    assert_eq!(
        (tree.node("disk").mode, tree.node("disk").rdev),
        (0o060_660, nix::sys::stat::makedev(7, 200))
    );
    if store.configuration().driver != Driver::Overlay {
        // On overlay it would be a whiteout, which no image can mean.
        let base = store.fill("whiteout", None, &Tarball::of([Entry::char_device("zero", 0, 0)]));
        assert_eq!(store.tree(&base, Times::Seconds).node("zero").rdev, 0);
    }
}

/// A user namespace can make no devices; images have some all the same, and must not fail for it.
pub fn devices_left_out(store: &Store) {
    let archive =
        Tarball::of([Entry::file("before", ""), Entry::char_device("null", 1, 3), Entry::file("zz", "")]);
    let base = store.fill("base", None, &archive);
    assert_eq!(store.tree(&base, Times::Seconds).paths(), ["before", "zz"]);
}
