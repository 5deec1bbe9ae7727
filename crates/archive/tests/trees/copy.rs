//! Copies of trees.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::net::UnixListener;

use graphdriver_archive::whiteout::OverlayXattrs;
use graphdriver_archive::{CopyMethod, CopyOptions, ErrorKind, copy_tree, link_tree};
use nix::sys::stat::SFlag;

use crate::support::{Tree, snapshot};

const METHODS: [CopyMethod; 3] = [CopyMethod::Auto, CopyMethod::Range, CopyMethod::Plain];

fn copied(from: &Tree, method: CopyMethod) -> Tree {
    let to = Tree::new();
    copy_tree(&from.root(), &to.root(), &CopyOptions { method, ..CopyOptions::default() }).unwrap();
    to
}

/// Ten directories side by side, three deep, with files of odd sizes, modes and times and a socket in each.
fn wide_tree() -> Tree {
    let tree = Tree::new();
    let mut state = 7_u32;
    let mut random = |below: u32| {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        (state >> 16) % below
    };
    for one in 0..10 {
        for two in 0..10 {
            let dir = format!("{one}/{two}/x");
            for file in 0..3 {
                let path = format!("{dir}/{file}");
                tree.file(&path, vec![b'c'; random(9000) as usize]).mode(&path, 0o400 | random(0o400));
            }
            drop(UnixListener::bind(tree.path(&format!("{one}/{two}/socket"))).unwrap());
            tree.mode(&dir, 0o500 | random(0o400)).mode(&format!("{one}/{two}/socket"), 0o751);
            tree.time(&dir, i64::from(random(30_000)) - 15_000, i64::from(random(1000)));
        }
    }
    tree.mode(".", 0o711).time(".", 1_500_000_000, 5);
    tree
}

#[test]
fn every_method_gives_an_equal_tree_of_other_inodes() {
    let from = wide_tree();
    for method in METHODS {
        let to = copied(&from, method);
        assert_eq!(snapshot(&to.path("")), snapshot(&from.path("")), "{method:?}");
        let root = fs::metadata(to.path("")).unwrap();
        assert_eq!((root.mode() & 0o7777, root.mtime(), root.mtime_nsec()), (0o711, 1_500_000_000, 5));
        let inode = |tree: &Tree| fs::metadata(tree.path("3/3/x/1")).unwrap().ino();
        assert_ne!(inode(&from), inode(&to));
    }
}

#[test]
fn a_linked_tree_has_directories_of_its_own_and_names_for_the_same_files() {
    let from = wide_tree();
    from.file("file", "content").link("second name", "file").symlink("symlink", "nowhere");
    from.settle();
    let to = Tree::new();
    link_tree(&from.root(), &to.root(), &CopyOptions::default()).unwrap();
    assert_eq!(snapshot(&to.path("")), snapshot(&from.path("")));
    let inode = |tree: &Tree, path: &str| fs::symlink_metadata(tree.path(path)).unwrap().ino();
    for path in ["file", "second name", "symlink", "3/3/x/1", "3/3/socket"] {
        assert_eq!(inode(&from, path), inode(&to, path), "{path}");
    }
    for path in ["", "3", "3/3/x"] {
        assert_ne!(inode(&from, path), inode(&to, path), "{path}");
    }
}

#[test]
#[ignore = "needs root"]
fn marks_of_overlay_are_kept_on_demand() {
    let from = Tree::new();
    from.dir("opaque").xattr("opaque", "trusted.overlay.opaque", b"y").xattr(
        "opaque",
        "trusted.overlay.origin",
        b"\0",
    );
    for (overlay_marks, kept) in [(None, false), (Some(OverlayXattrs::Trusted), true)] {
        let to = Tree::new();
        let options = CopyOptions { overlay_marks, ..CopyOptions::default() };
        copy_tree(&from.root(), &to.root(), &options).unwrap();
        let names = graphdriver_sys::xattr::flist(File::open(to.path("opaque")).unwrap()).unwrap();
        let names: Vec<_> = names.iter().filter(|name| name.to_bytes().starts_with(b"trusted.")).collect();
        assert_eq!(names == [c"trusted.overlay.opaque"], kept, "{names:?}");
        assert_eq!(names.is_empty(), !kept, "{names:?}");
    }
}

#[test]
fn links_attributes_and_special_files_are_kept() {
    let from = Tree::new();
    from.dir("a").dir("b").file("a/first", "content").link("b/second", "a/first").link("third", "a/first");
    from.symlink("link", "/nowhere").link("link-hard", "link").node("fifo", SFlag::S_IFIFO, (0, 0));
    from.xattr("a/first", "user.a", b"\0\n").xattr("b", "user.b", b"").xattr(
        "third",
        "user.overlay.origin",
        b"x",
    );
    from.mode("a/first", 0o6751).mode("b", 0o3770).settle();
    let to = copied(&from, CopyMethod::Auto);
    graphdriver_sys::xattr::fremove(File::open(from.path("third")).unwrap(), "user.overlay.origin").unwrap();
    assert_eq!(snapshot(&to.path("")), snapshot(&from.path("")));
}

#[test]
fn a_default_acl_is_not_inherited_by_what_is_copied() {
    let from = Tree::new();
    from.file("dir/sub/file", "").mode("dir/sub/file", 0o644);
    let entry =
        |tag: u8, permissions: u8, id: u32| [&[tag, 0, permissions, 0][..], &id.to_le_bytes()].concat();
    let none = u32::MAX;
    let acl = [
        vec![2, 0, 0, 0],
        entry(1, 7, none),
        entry(2, 7, 12),
        entry(4, 5, none),
        entry(16, 7, none),
        entry(32, 5, none),
    ];
    from.xattr("dir", "system.posix_acl_default", &acl.concat()).xattr(
        "dir",
        "system.posix_acl_access",
        &acl.concat(),
    );
    from.settle();
    let to = copied(&from, CopyMethod::Auto);
    assert_eq!(snapshot(&to.path("")), snapshot(&from.path("")));
    // Nor is one of the directory that the copy was made in.
    let home = Tree::new();
    home.xattr(".", "system.posix_acl_default", &acl.concat()).dir("copy");
    let root = home.root().subdir(std::path::Path::new("copy")).unwrap();
    copy_tree(&from.root(), &root, &CopyOptions::default()).unwrap();
    assert_eq!(snapshot(&home.path("copy")), snapshot(&from.path("")));
    assert_eq!(xattr_names(&home.path("copy")), [""; 0]);
}

fn xattr_names(path: &std::path::Path) -> Vec<String> {
    let names = graphdriver_sys::xattr::flist(File::open(path).unwrap()).unwrap();
    names.iter().map(|name| name.to_string_lossy().into_owned()).collect()
}

#[test]
fn holes_stay_holes() {
    let from = Tree::new();
    for (name, data) in
        [("start", Some(0)), ("middle", Some(5 << 20)), ("end", Some((10 << 20) - 4)), ("none", None)]
    {
        let file = File::create(from.path(name)).unwrap();
        file.set_len(10 << 20).unwrap();
        if let Some(at) = data {
            file.write_all_at(b"data", at).unwrap();
        }
    }
    from.settle();
    for method in METHODS {
        let to = copied(&from, method);
        assert_eq!(snapshot(&to.path("")), snapshot(&from.path("")), "{method:?}");
        for name in ["start", "middle", "end", "none"] {
            let blocks = fs::metadata(to.path(name)).unwrap().blocks();
            assert!(blocks * 512 < 1 << 20, "{name} by {method:?} has {blocks} blocks");
        }
    }
}

#[test]
fn large_files_are_copied_to_their_end() {
    let from = Tree::new();
    let content: Vec<u8> =
        (0..3_000_001_u32).map(|number| number.to_le_bytes()[0] ^ number.to_le_bytes()[1]).collect();
    from.file("large", &content).file("small", "x").file("empty", "");
    for method in METHODS {
        let to = copied(&from, method);
        assert!(fs::read(to.path("large")).unwrap() == content, "{method:?}");
        assert_eq!(fs::read(to.path("small")).unwrap(), b"x");
    }
}

#[test]
fn what_is_there_already_is_not_overwritten() {
    let (from, to) = (Tree::new(), Tree::new());
    from.file("file", "new");
    to.file("file", "old");
    let error = copy_tree(&from.root(), &to.root(), &CopyOptions::default()).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Io, Some(nix::errno::Errno::EEXIST)));
    assert_eq!(fs::read(to.path("file")).unwrap(), b"old");
}

#[test]
fn deep_trees_are_copied() {
    let from = Tree::new();
    from.file(&format!("{}leaf", "d/".repeat(400)), "").settle();
    assert_eq!(snapshot(&copied(&from, CopyMethod::Auto).path("")), snapshot(&from.path("")));
}

#[test]
fn a_copy_on_another_file_system_falls_back() {
    let from = wide_tree();
    let to = tempfile::tempdir_in("/dev/shm").unwrap();
    let root = graphdriver_archive::RootDir::open(to.path()).unwrap();
    copy_tree(&from.root(), &root, &CopyOptions::default()).unwrap();
    assert_eq!(snapshot(to.path()), snapshot(&from.path("")));
}

#[test]
#[ignore = "needs root"]
fn owners_devices_and_privileged_attributes_are_kept() {
    let from = Tree::new();
    from.file("cap", "x").file("owned", "").symlink("link", "x").dir("dir").file("dir/below", "");
    for name in ["owned", "link", "dir"] {
        std::os::unix::fs::lchown(from.path(name), Some(4_000_000_000), Some(7)).unwrap();
    }
    from.mode("owned", 0o6755).mode("cap", 0o755).mode("dir", 0o2750);
    from.xattr(
        "cap",
        "security.capability",
        &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    );
    from.xattr("dir", "trusted.t", b"1").node("char", SFlag::S_IFCHR, (1, 3)).node(
        "block",
        SFlag::S_IFBLK,
        (7, 70_000),
    );
    from.settle();
    let to = copied(&from, CopyMethod::Auto);
    assert_eq!(snapshot(&to.path("")), snapshot(&from.path("")));
    let to = Tree::new();
    copy_tree(&from.root(), &to.root(), &CopyOptions { in_user_namespace: true, ..CopyOptions::default() })
        .unwrap();
    assert!(!to.path("char").exists() && !to.path("block").exists() && to.path("cap").exists());
}
