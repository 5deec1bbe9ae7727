//! Trees and change lists as archives, read back by GNU tar and by the `tar` crate.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use graphdriver_archive::whiteout::OverlayXattrs;
use graphdriver_archive::{
    Change, ChangeKind, CompareOptions, CopyOptions, Error, ErrorKind, Export, ExportOptions, IdMap, IdMaps,
    LayerStack, changes, changes_size, copy_tree, layer_changes,
};
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag};
use nix::unistd::linkat;

use crate::support::{Tree, snapshot};

pub(crate) fn read(mut export: Export) -> Vec<u8> {
    let mut archive = Vec::new();
    export.read_to_end(&mut archive).unwrap();
    archive
}

pub(crate) fn tree(tree: &Tree) -> Vec<u8> {
    read(Export::tree(&tree.root(), ExportOptions::default()).unwrap())
}

/// Kind and name of each entry, with the target of links.
pub(crate) fn listed(archive: &[u8]) -> Vec<String> {
    let mut entries = tar::Archive::new(archive);
    let line = |entry: tar::Entry<'_, &[u8]>| {
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let link = entry.link_name_bytes().map(|link| format!(" -> {}", String::from_utf8_lossy(&link)));
        let kind = char::from(entry.header().entry_type().as_byte());
        format!("{kind} {name}{}", link.unwrap_or_default())
    };
    entries.entries().unwrap().map(|entry| line(entry.unwrap())).collect()
}

fn extracted(archive: &[u8]) -> Tree {
    let out = Tree::new();
    let options = ["-xp", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C"];
    let mut tar =
        Command::new("tar").args(options).arg(out.path("")).stdin(Stdio::piped()).spawn().expect("GNU tar");
    tar.stdin.take().unwrap().write_all(archive).unwrap();
    assert!(tar.wait().unwrap().success());
    out
}

fn failure(mut export: Export) -> Error {
    let mut archive = Vec::new();
    let error = export.read_to_end(&mut archive).unwrap_err();
    assert!(export.read(&mut [0; 512]).is_err(), "a failed export goes on");
    *error.into_inner().unwrap().downcast().unwrap()
}

/// Names, sizes, links, times and attributes of every kind that an ordinary user can make.
pub(crate) fn odd_tree() -> Tree {
    let tree = Tree::new();
    let name = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    for odd in [
        &b"new\nline"[..],
        b"\xff\xfe-notutf8",
        b"sp ace",
        "ünïcode".as_bytes(),
        b"back\\slash,:=",
        &[b'n'; 250],
    ] {
        fs::write(tree.path("").join(name(odd)), odd).unwrap();
    }
    tree.file(&format!("{}leaf", "deep/".repeat(60)), "leaf").file(&format!("{}/x", "d".repeat(100)), "");
    tree.dir(&format!("{}/{}", "p".repeat(99), "q".repeat(99)))
        .file("empty", "")
        .file("big", vec![7; 1_000_000]);
    tree.symlink("dangling", "/nowhere/at/all")
        .symlink("long-target", &"t/".repeat(200))
        .link("dangling-hard", "dangling");
    tree.link("hard-long-".repeat(15).as_str(), "big").link("a-first-name", "big");
    tree.file("bits", "").mode("bits", 0o7755).dir("sticky").mode("sticky", 0o1777).node(
        "fifo",
        SFlag::S_IFIFO,
        (0, 0),
    );
    tree.xattr("empty", "user.foo", b"bar").xattr("empty", "user.bin", b"\0\xff\n\0").xattr(
        "sticky",
        "user.empty",
        b"",
    );
    tree.xattr("big", "user.long", &[b'v'; 2000]);
    let sparse = File::create(tree.path("sparse")).unwrap();
    sparse.set_len(3_000_001).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 1_500_000).unwrap();
    tree.settle().time("empty", -315_619_200, 0).time("big", -1, 999_999_999).time("fifo", 5_000_000_000, 1);
    tree.time("dangling", 1, 5).time("sticky", 1_700_000_000, 0);
    tree
}

#[test]
fn gnu_tar_gives_the_tree_back() {
    let tree = odd_tree();
    let out = extracted(&self::tree(&tree));
    assert_eq!(snapshot(&out.path("")), snapshot(&tree.path("")));
}

#[test]
#[ignore = "needs root"]
fn gnu_tar_gives_owners_devices_and_privileged_attributes_back() {
    let tree = Tree::new();
    tree.file("owned", "").file("cap", "x").file("trusted", "").file("setuid", "x");
    std::os::unix::fs::chown(tree.path("owned"), Some(4_000_000_000), Some(3_000_000_000)).unwrap();
    std::os::unix::fs::chown(tree.path("setuid"), Some(2_097_151), Some(2_097_152)).unwrap();
    tree.mode("setuid", 0o6755).mode("cap", 0o755);
    tree.xattr(
        "cap",
        "security.capability",
        &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    );
    tree.xattr("trusted", "trusted.t", b"1").xattr("trusted", "trusted.overlay.origin", b"");
    tree.node("c13", SFlag::S_IFCHR, (1, 3)).node("b", SFlag::S_IFBLK, (259, 200_000)).node(
        "fifo",
        SFlag::S_IFIFO,
        (0, 0),
    );
    tree.settle();
    let out = extracted(&self::tree(&tree));
    graphdriver_sys::xattr::fremove(File::open(tree.path("trusted")).unwrap(), "trusted.overlay.origin")
        .unwrap();
    assert_eq!(snapshot(&out.path("")), snapshot(&tree.path("")));
}

#[test]
fn entries_are_in_the_order_of_their_paths_and_without_the_root() {
    let tree = Tree::new();
    tree.file("a/b", "")
        .file("a-b", "")
        .file("a-/c", "")
        .dir("a.d/x/y")
        .file("a/b-", "")
        .file("b", "")
        .dir("a0");
    let names = [
        "5 a/",
        "5 a-/",
        "0 a-/c",
        "0 a-b",
        "5 a.d/",
        "5 a.d/x/",
        "5 a.d/x/y/",
        "0 a/b",
        "0 a/b-",
        "5 a0/",
        "0 b",
    ];
    assert_eq!(listed(&self::tree(&tree)), names);
    // The same list as one made of changes.
    let all = changes(&tree.root(), None, &CompareOptions::default()).unwrap();
    assert_eq!(
        self::tree(&tree),
        read(Export::changes(&tree.root(), all, ExportOptions::default()).unwrap())
    );
}

#[test]
fn an_empty_tree_is_the_end_mark() {
    assert_eq!(tree(&Tree::new()), [0; 1024]);
}

#[test]
fn buffers_of_any_size_get_the_same_bytes() {
    let tree = odd_tree();
    let whole = self::tree(&tree);
    for size in [1000, 512, 4097, 1 << 20] {
        let mut export = Export::tree(&tree.root(), ExportOptions::default()).unwrap();
        let (mut archive, mut buffer) = (Vec::new(), vec![0; size]);
        loop {
            let bytes = export.read(&mut buffer).unwrap();
            archive.extend_from_slice(&buffer[..bytes]);
            if bytes < size {
                break;
            }
        }
        assert!(archive == whole, "buffer of {size} bytes");
        assert_eq!(export.read(&mut buffer).unwrap(), 0);
    }
}

#[test]
fn plain_files_have_plain_headers() {
    let tree = Tree::new();
    tree.file("file", "x").mode("file", 0o640).time("file", 1_600_000_000, 0);
    let archive = self::tree(&tree);
    assert_eq!(archive.len(), 512 + 512 + 1024);
    let mut entries = tar::Archive::new(&archive[..]);
    let entry = entries.entries().unwrap().next().unwrap().unwrap();
    let header = entry.header();
    assert_eq!((header.mode().unwrap(), header.mtime().unwrap()), (0o640, 1_600_000_000));
    assert_eq!((header.username().unwrap(), header.groupname().unwrap()), (Some(""), Some("")));
}

#[test]
fn sockets_are_left_out() {
    let tree = Tree::new();
    let _socket = UnixListener::bind(tree.path("socket")).unwrap();
    tree.file("file", "");
    assert_eq!(listed(&self::tree(&tree)), ["0 file"]);
}

#[test]
fn the_first_name_in_order_is_the_file_however_the_changes_are_ordered() {
    let tree = Tree::new();
    tree.file("name1", "content").link("name2", "name1").link("name3", "name1");
    for order in
        [["/name1", "/name2", "/name3"], ["/name3", "/name2", "/name1"], ["/name2", "/name3", "/name1"]]
    {
        let list = order.map(|path| Change::new(path, ChangeKind::Add)).to_vec();
        let archive = read(Export::changes(&tree.root(), list, ExportOptions::default()).unwrap());
        assert_eq!(listed(&archive), ["0 name1", "1 name2 -> name1", "1 name3 -> name1"]);
    }
    // A name that is not in the list cannot be the target.
    let list = vec![Change::new("/name2", ChangeKind::Modify), Change::new("/name3", ChangeKind::Modify)];
    let archive = read(Export::changes(&tree.root(), list, ExportOptions::default()).unwrap());
    assert_eq!(listed(&archive), ["0 name2", "1 name3 -> name2"]);
}

#[test]
fn deletions_become_whiteouts_and_directories_made_again_opaque() {
    let tree = Tree::new();
    tree.file("again/new", "").dir("kept").mode("again", 0o750);
    let list = [
        ("/gone", ChangeKind::Delete),
        ("/kept/gone", ChangeKind::Delete),
        ("/missing/gone", ChangeKind::Delete),
        ("/kept", ChangeKind::Modify),
        ("/again", ChangeKind::Delete),
        ("/again/new", ChangeKind::Add),
    ];
    let list = list.map(|(path, kind)| Change::new(path, kind)).to_vec();
    let archive = read(Export::changes(&tree.root(), list, ExportOptions::default()).unwrap());
    let names = [
        "5 again/",
        "0 again/.wh..wh..opq",
        "0 again/new",
        "0 .wh.gone",
        "5 kept/",
        "0 kept/.wh.gone",
        "0 missing/.wh.gone",
    ];
    assert_eq!(listed(&archive), names);
    let mut entries = tar::Archive::new(&archive[..]);
    for entry in entries.entries().unwrap().map(Result::unwrap) {
        let header = entry.header();
        let facts = (header.mode().unwrap(), header.size().unwrap(), header.mtime().unwrap());
        match &*entry.path_bytes() {
            b"again/.wh..wh..opq" => assert_eq!(facts, (0o750, 0, 0)),
            name if name.starts_with(b".wh.") => assert_eq!(facts, (0, 0, 0)),
            _ => {}
        }
    }
}

#[test]
fn a_change_outside_the_root_is_refused() {
    let tree = Tree::new();
    let list = vec![Change::new("/../etc/passwd", ChangeKind::Add)];
    let error = Export::changes(&tree.root(), list, ExportOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PathEscape);
    // A link on the way leads nowhere but into the root.
    tree.symlink("etc", "/etc");
    let list = vec![Change::new("/etc/passwd", ChangeKind::Add)];
    assert_eq!(read(Export::changes(&tree.root(), list, ExportOptions::default()).unwrap()), [0; 1024]);
}

#[test]
fn what_vanishes_is_left_out() {
    let tree = Tree::new();
    // More than are found ahead.
    for number in 0..100 {
        tree.file(&format!("a/{number:02}"), "a");
    }
    tree.dir("b").file("c", "c").file("d/e", "");
    let mut export = Export::tree(&tree.root(), ExportOptions::default()).unwrap();
    let mut archive = vec![0; 512];
    export.read_exact(&mut archive).unwrap();
    tree.remove("b").remove("c").remove("d/e");
    export.read_to_end(&mut archive).unwrap();
    assert_eq!(listed(&archive)[100..], ["0 a/99", "5 d/"]);
}

#[test]
fn a_file_that_changes_its_size_has_the_announced_one() {
    for (size_then, expected) in
        [(100_u64, [vec![b'x'; 100], vec![0; 900]].concat()), (5000, vec![b'x'; 1000])]
    {
        let tree = Tree::new();
        tree.file("file", [b'x'; 1000]).file("next", "");
        let mut export = Export::tree(&tree.root(), ExportOptions::default()).unwrap();
        let mut archive = vec![0; 512];
        export.read_exact(&mut archive).unwrap();
        File::options().write(true).open(tree.path("file")).unwrap().set_len(size_then).unwrap();
        export.read_to_end(&mut archive).unwrap();
        assert_eq!(listed(&archive), ["0 file", "0 next"]);
        // With nanoseconds in the time there is an extended header of two blocks before the file's own.
        let start = archive.windows(8).position(|window| window == b"xxxxxxxx").unwrap();
        assert_eq!(archive[start..start + 1000], expected);
    }
}

#[test]
fn names_of_whiteouts_are_refused() {
    let tree = Tree::new();
    tree.file("a", "").file("dir/.wh.x", "");
    let error = failure(Export::tree(&tree.root(), ExportOptions::default()).unwrap());
    assert_eq!(error.kind(), ErrorKind::NotSupported);
    assert_eq!(error.failed_path(), Some(Path::new("dir/.wh.x")));
}

fn only(container_id: u32, host_id: u32, size: u32) -> ExportOptions {
    let map = vec![IdMap { container_id, host_id, size }];
    ExportOptions { id_maps: IdMaps::new(map.clone(), map).unwrap() }
}

#[test]
fn an_owner_without_mapping_fails_naming_the_file() {
    let tree = Tree::new();
    tree.file("file", "");
    let error = failure(Export::tree(&tree.root(), only(0, 3_000_000_000, 1)).unwrap());
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(error.failed_path(), Some(Path::new("file")));
}

#[test]
#[ignore = "needs root"]
fn ids_are_those_of_the_container_in_owners_acls_and_capabilities() {
    let tree = Tree::new();
    tree.file("file", "").mode("file", 0o750);
    std::os::unix::fs::chown(tree.path("file"), Some(100_005), Some(100_006)).unwrap();
    let entry = |tag: u8, id: u32| [&[tag, 0, 6, 0][..], &id.to_le_bytes()].concat();
    let acl = |user: u32| {
        let none = u32::MAX;
        [vec![2, 0, 0, 0], entry(1, none), entry(2, user), entry(4, none), entry(16, none), entry(32, none)]
            .concat()
    };
    let capability =
        |version: u8, root: &[u8]| [&[1, 0, 0, version, 0, 0x20, 0, 0][..], &[0; 12], root].concat();
    tree.xattr("file", "system.posix_acl_access", &acl(100_007));
    tree.xattr("file", "security.capability", &capability(3, &100_000_u32.to_le_bytes()));
    let archive = read(Export::tree(&tree.root(), only(0, 100_000, 65536)).unwrap());
    let has = |bytes: &[u8]| archive.windows(bytes.len()).any(|window| window == bytes);
    let mut entries = tar::Archive::new(&archive[..]);
    let entry = entries.entries().unwrap().next().unwrap().unwrap();
    assert_eq!((entry.header().uid().unwrap(), entry.header().gid().unwrap()), (5, 6));
    assert!(has(&[b"SCHILY.xattr.system.posix_acl_access=", &acl(7)[..], b"\n"].concat()));
    assert!(has(&[b"SCHILY.xattr.security.capability=", &capability(2, b"")[..], b"\n"].concat()));
}

#[test]
fn trees_deeper_than_a_path_can_say() {
    let (tree, copy) = (Tree::new(), Tree::new());
    let name = "n".repeat(250);
    let bottom = tree.chain(&name, 20);
    for name in ["a", "b"] {
        let file =
            nix::fcntl::openat(&bottom, name, OFlag::O_CREAT | OFlag::O_WRONLY, Mode::S_IRWXU).unwrap();
        File::from(file).write_all(b"content").unwrap();
    }
    linkat(&bottom, "a", &bottom, "link", AtFlags::empty()).unwrap();
    let archive = self::tree(&tree);
    let mut entries = tar::Archive::new(&archive[..]);
    let names: Vec<_> = entries.entries().unwrap().map(|entry| entry.unwrap().path_bytes().len()).collect();
    assert_eq!((names.len(), names[19], names[20]), (23, 20 * 251, 20 * 251 + 1));
    // The same by a list, from a copy, and as a layer over itself.
    let all = changes(&tree.root(), None, &CompareOptions::default()).unwrap();
    assert_eq!(all.len(), 23);
    assert_eq!(changes_size(&tree.root(), &all).unwrap(), 14);
    assert!(read(Export::changes(&tree.root(), all, ExportOptions::default()).unwrap()) == archive);
    copy_tree(&tree.root(), &copy.root(), &CopyOptions::default()).unwrap();
    assert!(self::tree(&copy) == archive);
    assert_eq!(changes(&copy.root(), Some(&tree.root()), &CompareOptions::default()).unwrap(), []);
    let stack = LayerStack::overlay(vec![copy.root(), tree.root()], OverlayXattrs::User);
    let layer = layer_changes(&stack, 1).unwrap();
    assert_eq!(layer.iter().map(|change| change.kind.letter()).collect::<String>(), "CCC");
    for tree in [&tree, &copy] {
        tree.root().remove_all(Path::new(&name)).unwrap();
    }
}
