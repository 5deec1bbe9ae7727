//! New layers, and what can be asked about them.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use graphdriver_core::{CreateOptions, ErrorKind, LayerKind};

use crate::configuration::Driver;
use crate::store::{Store, fails, id};
use crate::tree::{Times, Tree};

pub fn empty(store: &Store) {
    let empty = store.create("empty", None);
    assert!(store.graph().exists(&empty).unwrap());
    assert_eq!(store.graph().parent(&empty).unwrap(), None);
    store.edit(&empty, |root| {
        let metadata = root.symlink_metadata().unwrap();
        assert!(root.is_absolute() && metadata.is_dir());
        let owner = nix::unistd::Uid::effective();
        // Who is not root could not write to his own layer.
        assert_eq!(metadata.mode() & 0o7777, if owner.is_root() { 0o555 } else { 0o755 });
        assert_eq!(metadata.uid(), owner.as_raw());
        assert_eq!(fs::read_dir(root).unwrap().count(), 0);
    });
}

/// Files whose modes have all twelve bits, of other owners, in directories with a blank.
fn write_base(root: &Path) {
    let (dir, file) = (root.join("a subdir"), root.join("a file"));
    fs::create_dir(&dir).unwrap();
    fs::write(&file, "Some data").unwrap();
    chown(&dir, Some(1), Some(2)).unwrap();
    fs::set_permissions(&dir, Permissions::from_mode(0o1705)).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o4222)).unwrap();
}

fn check_base(tree: &Tree) {
    assert_eq!(tree.paths(), ["a file", "a subdir"]);
    let (file, dir) = (tree.node("a file"), tree.node("a subdir"));
    assert_eq!((file.permissions(), file.uid, file.gid), (0o4222, 0, 0));
    assert_eq!(tree.contents("a file"), "Some data");
    assert_eq!((dir.permissions(), dir.uid, dir.gid), (0o1705, 1, 2));
}

pub fn base(store: &Store) {
    let base = store.create("base", None);
    store.edit(&base, write_base);
    check_base(&store.tree(&base, Times::Seconds));
    let child = store.create("child", Some(&base));
    assert_eq!(store.graph().parent(&child).unwrap(), Some(base.clone()));
    store.tree(&child, Times::Nanoseconds).assert_same(&store.tree(&base, Times::Nanoseconds));
}

pub fn snap(store: &Store) {
    let base = store.create("base", None);
    store.edit(&base, |root| fs::write(root.join("file"), "base").unwrap());
    let before = store.tree(&base, Times::Seconds).node("").permissions();
    let snap = store.create("snap", Some(&base));
    store.edit(&snap, |root| {
        assert_eq!(fs::read(root.join("file")).unwrap(), b"base");
        // The sticky bit too, which Go's conversion of modes loses.
        fs::set_permissions(root, Permissions::from_mode(0o1711)).unwrap();
        fs::write(root.join("file"), "snap").unwrap();
    });
    let second = store.create("second", Some(&snap));
    let tree = store.tree(&second, Times::Seconds);
    assert_eq!(tree.node("").permissions(), 0o1711);
    assert_eq!(tree.contents("file"), "snap");
    let tree = store.tree(&base, Times::Seconds);
    assert_eq!(tree.node("").permissions(), before);
    assert_eq!(tree.contents("file"), "base");
}

pub fn root_owner(store: &Store) {
    let base = store.create("base", None);
    store.edit(&base, |root| chown(root, Some(7), Some(8)).unwrap());
    let child = store.create("child", Some(&base));
    let tree = store.tree(&child, Times::Seconds);
    assert_eq!((tree.node("").uid, tree.node("").gid), (7, 8));
}

pub fn from_template(store: &Store) {
    let base = store.create("base", None);
    store.edit(&base, |root| {
        fs::write(root.join("kept"), "base").unwrap();
        fs::write(root.join("gone"), "base").unwrap();
        fs::create_dir(root.join("dir")).unwrap();
    });
    let template = store.create("template", Some(&base));
    store.edit(&template, |root| {
        fs::write(root.join("kept"), "template").unwrap();
        fs::write(root.join("dir/new"), "template").unwrap();
        fs::remove_file(root.join("gone")).unwrap();
    });
    let before = store.tree(&template, Times::Nanoseconds);
    let changes = store.changes(&template, Some(&base));
    for (name, kind) in [("writable", LayerKind::ReadWrite), ("fixed", LayerKind::ReadOnly)] {
        let copy = id(name);
        let options = CreateOptions { kind, ..CreateOptions::on(&base) };
        store.graph().create_from_template(&copy, &template, &options).unwrap();
        store.tree(&copy, Times::Nanoseconds).assert_same(&before);
        assert_eq!(store.changes(&copy, Some(&template)), [""; 0]);
        assert_eq!(store.changes(&copy, Some(&base)), changes);
        store.edit(&copy, |root| fs::write(root.join("kept"), "copy").unwrap());
    }
    store.tree(&template, Times::Nanoseconds).assert_same(&before);
    let missing = store.graph().create_from_template(&id("c"), &id("missing"), &CreateOptions::default());
    fails(missing, ErrorKind::ParentUnknown);
    assert!(!store.graph().exists(&id("c")).unwrap());
}

pub fn list_layers(store: &Store) {
    assert_eq!(store.graph().layers().unwrap(), []);
    let base = store.create("base", None);
    let mid = store.create("mid", Some(&base));
    let upper = store.create("upper", Some(&mid));
    let listed = [base, mid, upper];
    assert_eq!(store.graph().layers().unwrap(), listed);
    assert_eq!(store.reopen().layers().unwrap(), listed);
    // What a mkfs leaves in a home that is a file system of its own is no layer.
    fs::create_dir_all(store.home().join("lost+found")).unwrap();
    assert_eq!(store.graph().layers().unwrap(), listed);
    store.remove(&listed[2]);
    assert_eq!(store.graph().layers().unwrap(), listed[..2]);
}

pub fn describes_itself(store: &Store) {
    let status = store.graph().status().unwrap();
    let backing =
        status.iter().find(|(name, _)| name == "Backing Filesystem").map(|(_, value)| value.as_str());
    assert!(backing.is_some_and(|name| !name.is_empty()), "{status:?}");
    let base = store.create("base", None);
    let child = store.create("child", Some(&base));
    let metadata = store.graph().metadata(&child).unwrap();
    // A name in the pool, and no path.
    let metadata: BTreeMap<_, _> = metadata.into_iter().filter(|(key, _)| key != "Dataset").collect();
    let paths: Vec<&Path> = metadata.values().flat_map(|value| value.split(':')).map(Path::new).collect();
    assert!(!paths.is_empty() && paths.iter().all(|path| path.is_absolute()), "{metadata:?}");
    fails(store.graph().metadata(&id("missing")), ErrorKind::LayerUnknown);
    fails(store.graph().parent(&id("missing")), ErrorKind::LayerUnknown);
    if store.configuration().driver == Driver::Vfs {
        let reflink = store.graph().capabilities().reflink;
        assert_eq!(store.configuration().expects_reflinks(store.backing()).unwrap_or(reflink), reflink);
    }
}

pub fn usage(store: &Store) {
    let base = store.create("base", None);
    let before = store.graph().usage(&base).unwrap();
    store.edit(&base, |root| {
        fs::create_dir(root.join("dir")).unwrap();
        fs::write(root.join("dir/file"), [7; 5000]).unwrap();
        fs::hard_link(root.join("dir/file"), root.join("second name")).unwrap();
        fs::write(root.join("empty"), "").unwrap();
    });
    let after = store.graph().usage(&base).unwrap();
    // Counters are of allocated space, and of what the kernel keeps for a mount too.
    if !store.graph().capabilities().quota || store.configuration().driver == Driver::Btrfs {
        assert_eq!(after.bytes - before.bytes, 5000, "each file once");
        let marks = if store.configuration().by_fuse { 2 } else { 0 };
        assert_eq!(after.inodes - before.inodes, 3 + marks);
    }
    fails(store.graph().usage(&id("missing")), ErrorKind::LayerUnknown);
}

/// Characters that separate and escape in mount options, and those that break a line of a table.
pub fn odd_home_path(store: &Store) {
    let name = "a:b,c\\d e\nf\"g%h=i\\:j";
    let name = if store.configuration().by_fuse { name.replace(':', "_") } else { name.to_owned() };
    let dir = store.dir().join(name);
    fs::create_dir(&dir).unwrap();
    let graph = store.configuration().open(&dir).unwrap();
    let (base, child) = (id("base"), id("child"));
    let fill = |layer, create: &CreateOptions, archive: &[u8]| {
        graph
            .create_filled(layer, create, &mut &*archive, &graphdriver_core::LayerApplyOptions::default())
            .unwrap()
    };
    fill(&base, &CreateOptions::default(), &odd_archive());
    graph.create(&child, &CreateOptions::on(&base)).unwrap();
    let mount = graph.mount(&child, &graphdriver_core::MountOptions::default()).unwrap();
    assert_eq!(fs::read(mount.path().join("file")).unwrap(), b"odd");
    fs::remove_file(mount.path().join("file")).unwrap();
    mount.unmount().unwrap();
    let changes: Vec<String> =
        graph.changes(&child, Some(&base)).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(changes, ["D /file"]);
    graph.remove(&child).unwrap();
    graph.remove(&base).unwrap();
}

fn odd_archive() -> Vec<u8> {
    crate::tarball::Tarball::of([crate::tarball::Entry::file("file", "odd")])
}
