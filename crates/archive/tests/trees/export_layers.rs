//! Layers on disk, in overlay and in AUFS form, as archives.

use graphdriver_archive::whiteout::OverlayXattrs::{self, Trusted, User};
use graphdriver_archive::{ErrorKind, Export, ExportOptions, overlay_upper_is_plain};
use std::io::Read;

use crate::export::{listed, read};
use crate::support::Tree;

fn overlay(upper: &Tree, lowers: &[&Tree], xattrs: OverlayXattrs) -> Vec<u8> {
    let lowers = lowers.iter().map(|tree| tree.root()).collect();
    read(Export::overlay_upper(&upper.root(), lowers, xattrs, ExportOptions::default()).unwrap())
}

#[test]
fn an_opaque_mark_is_written_only_over_a_directory_below() {
    let (upper, lower) = (Tree::new(), Tree::new());
    lower.file("over/old", "").file("file", "").dir("plain/sub");
    for dir in ["over", "new", "file", "plain/sub"] {
        upper.dir(dir).xattr(dir, "user.overlay.opaque", b"y").xattr(dir, "user.kept", b"1");
    }
    upper
        .file("over/x", "")
        .dir("over/old")
        .xattr("over/old", "user.overlay.opaque", b"y")
        .mode("over", 0o750);
    upper.xattr("plain", "user.overlay.impure", b"y").xattr("plain", "user.overlay.origin", b"").settle();
    let archive = overlay(&upper, &[&lower], User);
    let names = [
        "5 file/",
        "5 new/",
        "5 over/",
        "0 over/.wh..wh..opq",
        "5 over/old/",
        "0 over/x",
        "5 plain/",
        "5 plain/sub/",
        "0 plain/sub/.wh..wh..opq",
    ];
    assert_eq!(listed(&archive), names);
    let has = |text: &[u8]| archive.windows(text.len()).any(|window| window == text);
    assert!(has(b"SCHILY.xattr.user.kept=1") && !has(b"overlay"));
    let mut entries = tar::Archive::new(&archive[..]);
    let mark = entries
        .entries()
        .unwrap()
        .map(Result::unwrap)
        .find(|entry| &*entry.path_bytes() == b"over/.wh..wh..opq");
    let header = mark.unwrap().header().clone();
    assert_eq!((header.mode().unwrap(), header.mtime().unwrap()), (0o750, 0));
    // Nothing below: nothing to hide.
    assert!(!listed(&overlay(&upper, &[], User)).iter().any(|line| line.contains(".wh.")));
}

#[test]
fn an_opaque_root_hides_all() {
    let (upper, lower) = (Tree::new(), Tree::new());
    lower.dir("dir");
    upper.dir("dir").xattr("dir", "user.overlay.opaque", b"y").xattr(".", "user.overlay.opaque", b"y");
    assert_eq!(listed(&overlay(&upper, &[&lower], User)), ["0 .wh..wh..opq", "5 dir/"]);
}

#[test]
#[ignore = "needs root"]
fn whiteouts_of_both_kinds_become_files() {
    let (upper, lower) = (Tree::new(), Tree::new());
    lower.file("dir/a", "").file("dir/b", "").file("marked/c", "");
    upper
        .dir("dir")
        .whiteout("dir/a")
        .whiteout("gone")
        .dir("marked")
        .file("marked/c", "")
        .file("marked/d", "");
    upper.xattr("marked", "trusted.overlay.opaque", b"x").xattr("marked/c", "trusted.overlay.whiteout", b"y");
    upper.settle();
    let archive = overlay(&upper, &[&lower], Trusted);
    assert_eq!(
        listed(&archive),
        ["5 dir/", "0 dir/.wh.a", "0 .wh.gone", "5 marked/", "0 marked/.wh.c", "0 marked/d"]
    );
    let mut entries = tar::Archive::new(&archive[..]);
    let gone = entries
        .entries()
        .unwrap()
        .map(Result::unwrap)
        .find(|entry| &*entry.path_bytes() == b".wh.gone")
        .unwrap();
    let header = gone.header();
    assert_eq!((header.mode().unwrap(), header.size().unwrap(), header.mtime().unwrap()), (0, 0, 0));
}

#[test]
fn layers_that_only_a_mount_can_read_are_refused() {
    let renamed = Tree::new();
    renamed.file("a/file", "").xattr("a", "user.overlay.redirect", b"/b");
    let emptied = Tree::new();
    emptied.file("a", "").xattr("a", "user.overlay.metacopy", b"");
    std::fs::File::options().write(true).open(emptied.path("a")).unwrap().set_len(100_000).unwrap();
    for tree in [&renamed, &emptied] {
        assert!(!overlay_upper_is_plain(&tree.root(), User).unwrap());
        assert!(overlay_upper_is_plain(&tree.root(), Trusted).unwrap());
        let mut export = Export::overlay_upper(&tree.root(), vec![], User, ExportOptions::default()).unwrap();
        let error = export.read_to_end(&mut Vec::new()).unwrap_err();
        let error = error.into_inner().unwrap().downcast::<graphdriver_archive::Error>().unwrap();
        assert_eq!(
            (error.kind(), error.failed_path().unwrap().to_str()),
            (ErrorKind::NotSupported, Some("a"))
        );
    }
}

#[test]
fn aufs_marks_are_kept_and_its_own_files_left_out() {
    let rw = Tree::new();
    rw.file(".wh..wh.aufs", "").dir(".wh..wh.plnk").file(".wh..wh.plnk/1.2", "").dir(".wh..wh.orph");
    rw.file("dir/.wh..wh..opq", "")
        .file("dir/x", "")
        .link("dir/.wh.gone", ".wh..wh.aufs")
        .link(".wh.top", ".wh..wh.aufs");
    rw.mode("dir", 0o711);
    let archive = read(Export::aufs_upper(&rw.root(), ExportOptions::default()).unwrap());
    assert_eq!(listed(&archive), ["0 .wh.top", "5 dir/", "0 dir/.wh..wh..opq", "0 dir/.wh.gone", "0 dir/x"]);
}
