//! Trees given to the users of another id map.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;

use graphdriver_archive::{ErrorKind, IdMap, IdMaps, OVERFLOW_ID, RootDir, chown_root, chown_tree};
use graphdriver_sys::xattr;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::support::Tree;

fn maps(host_id: u32) -> IdMaps {
    let map = vec![IdMap { container_id: 0, host_id, size: 1000 }];
    IdMaps::new(map.clone(), map).unwrap()
}

fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    let stat = fs::symlink_metadata(path).unwrap();
    (stat.uid(), stat.gid())
}

#[test]
#[ignore = "needs root"]
fn owners_move_from_one_map_to_the_other() {
    let tree = Tree::new();
    tree.file("dir/file", "").symlink("link", "/etc").file("unmapped-root", "").link("second", "dir/file");
    for path in [".", "dir", "link"] {
        lchown(tree.path(path), Some(100_000), Some(100_005)).unwrap();
    }
    lchown(tree.path("dir/file"), Some(100_999), Some(100_000)).unwrap();
    chown_tree(&tree.root(), &maps(100_000), &maps(200_000)).unwrap();
    assert_eq!(owner(tree.path(".")), (100_000, 100_005));
    assert_eq!(owner(tree.path("dir")), (200_000, 200_005));
    assert_eq!(owner(tree.path("link")), (200_000, 200_005));
    assert_eq!(owner(tree.path("second")), (200_999, 200_000));
    assert_eq!(owner(tree.path("unmapped-root")), (200_000, 200_000));
    assert_eq!(owner("/etc"), (0, 0));
    chown_root(&tree.root(), &maps(100_000), &maps(200_000)).unwrap();
    assert_eq!(owner(tree.path(".")), (200_000, 200_005));
    chown_tree(&tree.root(), &maps(200_000), &IdMaps::default()).unwrap();
    assert_eq!(owner(tree.path("dir/file")), (999, 0));
}

#[test]
#[ignore = "needs root"]
fn an_owner_without_place_is_an_error_or_the_overflow_id() {
    let tree = Tree::new();
    tree.file("file", "");
    lchown(tree.path("file"), Some(5000), Some(5)).unwrap();
    let error = chown_tree(&tree.root(), &maps(100_000), &maps(200_000)).unwrap_err();
    assert_eq!((error.kind(), error.failed_path()), (ErrorKind::InvalidArgument, Some(Path::new("file"))));
    assert_eq!(owner(tree.path("file")), (5000, 5));
    chown_tree(&tree.root(), &IdMaps::default(), &maps(200_000)).unwrap();
    assert_eq!(owner(tree.path("file")), (OVERFLOW_ID, 200_005));
}

#[test]
#[ignore = "needs root"]
fn set_id_bits_capabilities_and_acls_survive() {
    let tree = Tree::new();
    let capability =
        |version: u8, root: &[u8]| [&[1, 0, 0, version, 0, 0x20, 0, 0][..], &[0; 12], root].concat();
    let entry = |tag: u8, id: u32| [&[tag, 0, 6, 0][..], &id.to_le_bytes()].concat();
    let acl = |user: u32| {
        let none = u32::MAX;
        [vec![2, 0, 0, 0], entry(1, none), entry(2, user), entry(4, none), entry(16, none), entry(32, none)]
            .concat()
    };
    tree.file("bits", "").mode("bits", 0o6755).file("v2", "").file("v3", "").file("acl", "");
    tree.xattr("v2", "security.capability", &capability(2, b""));
    tree.xattr("v3", "security.capability", &capability(3, &100_000_u32.to_le_bytes()));
    tree.xattr("acl", "system.posix_acl_access", &acl(100_007));
    lchown(tree.path("acl"), Some(100_000), Some(100_000)).unwrap();
    chown_tree(&tree.root(), &maps(100_000), &maps(200_000)).unwrap();
    let get = |path: &str, name: &str| xattr::fget(File::open(tree.path(path)).unwrap(), name).unwrap();
    assert_eq!(fs::metadata(tree.path("bits")).unwrap().mode() & 0o7777, 0o6755);
    assert_eq!(owner(tree.path("v3")), (200_000, 200_000));
    assert_eq!(get("v2", "security.capability").unwrap(), capability(2, b""));
    assert_eq!(get("v3", "security.capability").unwrap(), capability(3, &200_000_u32.to_le_bytes()));
    assert_eq!(get("acl", "system.posix_acl_access").unwrap(), acl(200_007));
}

/// Unmounts at the end of a test, failed or not.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn names_of_one_file_stay_so_where_changing_the_owner_copies_it() {
    let tree = Tree::new();
    for dir in ["upper", "work", "merged"] {
        tree.dir(dir);
    }
    tree.file("lower/a/first", "x")
        .dir("lower/b")
        .link("lower/b/second", "lower/a/first")
        .link("lower/third", "lower/a/first");
    let path = |name: &str| tree.path(name).into_os_string().into_string().unwrap();
    let data =
        format!("index=off,lowerdir={},upperdir={},workdir={}", path("lower"), path("upper"), path("work"));
    mount(Some("overlay"), &tree.path("merged"), Some("overlay"), MsFlags::empty(), Some(data.as_str()))
        .unwrap();
    let mounted = Mounted(tree.path("merged"));
    let modified = |name: &str| {
        let stat = fs::metadata(tree.path("merged").join(name)).unwrap();
        (stat.mtime(), stat.mtime_nsec())
    };
    let before = ["a", "b", "third"].map(modified);
    chown_tree(&RootDir::open(&mounted.0).unwrap(), &IdMaps::default(), &maps(200_000)).unwrap();
    let stats = ["a/first", "b/second", "third"].map(|name| fs::metadata(mounted.0.join(name)).unwrap());
    for stat in &stats {
        assert_eq!((stat.ino(), stat.nlink(), stat.uid()), (stats[0].ino(), 3, 200_000));
    }
    assert_eq!(fs::read_dir(mounted.0.join("b")).unwrap().count(), 1);
    assert_eq!(["a", "b", "third"].map(modified), before);
}

/// Enough directories that every thread gets some, with files whose names lie far apart.
#[test]
#[ignore = "needs root"]
fn many_directories_and_links_across_them() {
    let tree = Tree::new();
    for dir in ["upper", "work", "merged"] {
        tree.dir(dir);
    }
    for number in 0..200 {
        tree.file(&format!("lower/{number}/deep/own"), "");
        match number {
            0..10 => tree.file(&format!("lower/{number}/shared"), "x"),
            _ => tree.link(&format!("lower/{number}/shared"), &format!("lower/{}/shared", number % 10)),
        };
    }
    let path = |name: &str| tree.path(name).into_os_string().into_string().unwrap();
    let data =
        format!("index=off,lowerdir={},upperdir={},workdir={}", path("lower"), path("upper"), path("work"));
    mount(Some("overlay"), &tree.path("merged"), Some("overlay"), MsFlags::empty(), Some(data.as_str()))
        .unwrap();
    let mounted = Mounted(tree.path("merged"));
    chown_tree(&RootDir::open(&mounted.0).unwrap(), &IdMaps::default(), &maps(200_000)).unwrap();
    let shared = |number: u32| fs::metadata(mounted.0.join(format!("{number}/shared"))).unwrap();
    for number in 0..200 {
        assert_eq!(owner(mounted.0.join(format!("{number}/deep/own"))), (200_000, 200_000));
        let (stat, first) = (shared(number), shared(number % 10));
        assert_eq!((stat.ino(), stat.nlink(), stat.uid()), (first.ino(), 20, 200_000), "{number}");
    }
}
