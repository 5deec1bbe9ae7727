//! Layers in overlay and in AUFS form, compared with what lies below them.

use graphdriver_archive::whiteout::OverlayXattrs::{Trusted, User};
use graphdriver_archive::{Export, ExportOptions, LayerStack, RootDir, layer_changes};

use crate::export::{listed, read};
use crate::support::{Tree, printed};

fn roots(upper: &Tree, lowers: &[&Tree]) -> Vec<RootDir> {
    std::iter::once(&upper).chain(lowers).map(|tree| tree.root()).collect()
}

fn overlay(upper: &Tree, lowers: &[&Tree]) -> Vec<String> {
    printed(&layer_changes(&LayerStack::overlay(roots(upper, lowers), User), 1).unwrap())
}

fn trusted(upper: &Tree, lowers: &[&Tree]) -> Vec<String> {
    printed(&layer_changes(&LayerStack::overlay(roots(upper, lowers), Trusted), 1).unwrap())
}

fn fuse(upper: &Tree, lowers: &[&Tree]) -> Vec<String> {
    printed(&layer_changes(&LayerStack::fuse_overlay(roots(upper, lowers)).unwrap(), 1).unwrap())
}

fn aufs(upper: &Tree, lowers: &[&Tree]) -> Vec<String> {
    printed(&layer_changes(&LayerStack::aufs(roots(upper, lowers)), 1).unwrap())
}

#[test]
fn without_layers_below_all_is_added() {
    let upper = Tree::new();
    upper.file("a/b", "").dir("o").xattr("o", "user.overlay.opaque", b"y").file("o/x", "");
    assert_eq!(overlay(&upper, &[]), ["A /a", "A /a/b", "A /o", "A /o/x"]);
}

#[test]
fn a_new_file_lists_the_directories_above_it_and_an_edited_one_does_not() {
    let lower = Tree::new();
    lower.file("a/b/old", "").file("c/edited", "").settle();
    let upper = Tree::new();
    upper.file("a/b/new", "").file("c/edited", "more").settle();
    assert_eq!(overlay(&upper, &[&lower]), ["C /a", "C /a/b", "A /a/b/new", "C /c/edited"]);
}

#[test]
fn a_directory_that_differs_is_listed() {
    let lower = Tree::new();
    lower.dir("mode").dir("time").dir("xattr").dir("same").settle();
    let upper = Tree::new();
    upper.dir("mode").dir("time").dir("xattr").dir("same").xattr("xattr", "user.a", b"1");
    upper.xattr("same", "user.overlay.impure", b"y").settle().mode("mode", 0o700).time(
        "time",
        1_600_000_000,
        5,
    );
    assert_eq!(overlay(&upper, &[&lower]), ["C /mode", "C /time", "C /xattr"]);
}

#[test]
fn a_lower_symlink_is_not_followed_and_a_lower_file_hides() {
    let outside = Tree::new();
    outside.file("file", "");
    let lower = Tree::new();
    lower.symlink("link", outside.path("").to_str().unwrap()).symlink("dangling", "nowhere").file("file", "");
    let upper = Tree::new();
    upper.file("link/file", "").file("dangling", "").file("file/below", "");
    assert_eq!(
        overlay(&upper, &[&lower]),
        ["C /dangling", "C /file", "A /file/below", "C /link", "A /link/file"]
    );
}

#[test]
fn opaque_over_nothing_is_only_new() {
    let (upper, lower) = (Tree::new(), Tree::new());
    lower.dir("parent").dir("hidden/below").settle();
    upper.file("parent/new/x", "").file("hidden/below", "").settle();
    upper.xattr("parent/new", "user.overlay.opaque", b"y").xattr("hidden", "user.overlay.opaque", b"y");
    let expected = ["D /hidden", "A /hidden/below", "C /parent", "A /parent/new", "A /parent/new/x"];
    assert_eq!(overlay(&upper, &[&lower]), expected);
}

#[test]
fn an_opaque_lower_hides_those_below_it() {
    let (upper, middle, bottom) = (Tree::new(), Tree::new(), Tree::new());
    bottom.file("dir/file", "").dir("dir/sub").settle();
    middle.dir("dir").xattr("dir", "user.overlay.opaque", b"y");
    upper.file("dir/file", "").dir("dir/sub").xattr("dir/sub", "user.overlay.opaque", b"y");
    assert_eq!(overlay(&upper, &[&middle, &bottom]), ["C /dir", "A /dir/file", "A /dir/sub"]);
    assert_eq!(overlay(&upper, &[&bottom]), ["C /dir", "C /dir/file", "D /dir/sub"]);
}

#[test]
fn whiteouts_by_xattr_count_only_in_directories_marked_for_them() {
    let (upper, lower) = (Tree::new(), Tree::new());
    lower.file("marked/gone", "").file("plain/kept", "").settle();
    upper.file("marked/gone", "").file("plain/kept", "").settle();
    upper.xattr("marked", "user.overlay.opaque", b"x");
    for file in ["marked/gone", "plain/kept"] {
        upper.xattr(file, "user.overlay.whiteout", b"y");
    }
    assert_eq!(overlay(&upper, &[&lower]), ["C /marked", "D /marked/gone", "C /plain/kept"]);
    let top = Tree::new();
    top.file("marked/gone", "again").file("plain/kept", "again").settle();
    assert_eq!(overlay(&top, &[&upper, &lower]), ["C /marked", "A /marked/gone", "C /plain/kept"]);
}

/// A directory is made, deleted and made again at growing depth; each time only what the layer did is listed.
#[test]
#[ignore = "needs root"]
fn echo() {
    let base = Tree::new();
    let path = |depth: usize| (0..=depth).map(|level| format!("dir{level}")).collect::<Vec<_>>().join("/");
    for depth in 0..10 {
        base.file(&format!("{}/file", path(depth)), "");
    }
    base.settle();
    for depth in 0..10 {
        let above: Vec<String> = (0..depth).map(|level| format!("C /{}", path(level))).collect();
        let second = Tree::new();
        if depth > 0 {
            second.dir(&path(depth - 1));
        }
        second.settle().whiteout(&path(depth));
        let deleted = [above.clone(), vec![format!("D /{}", path(depth))]].concat();
        assert_eq!(overlay(&second, &[&base]), deleted);
        let again = Tree::new();
        again.file(&format!("{}/file", path(depth)), "").settle().xattr(
            &path(depth),
            "trusted.overlay.opaque",
            b"y",
        );
        let added = [format!("A /{}", path(depth)), format!("A /{}/file", path(depth))];
        let found = trusted(&again, &[&second, &base]);
        assert_eq!(found, [above.clone(), added.to_vec()].concat());
        // Without the layer that deleted it, the opaque directory itself is the deletion.
        let found = trusted(&again, &[&base]);
        let below = format!("A /{}/file", path(depth));
        assert_eq!(found, [above, vec![format!("D /{}", path(depth)), below]].concat());
    }
}

#[test]
fn aufs_whiteouts_and_metadata() {
    let (upper, lower) = (Tree::new(), Tree::new());
    lower
        .file("dir1/file1-1", "")
        .file("dir1/file1-2", "")
        .dir("dir1/subfolder")
        .file("opaque/old", "")
        .settle();
    upper.file("dir1/file1-1", "fake").file("dir1/.wh.file1-2", "").file("dir1/subfolder/newFile", "");
    upper.file(".wh..wh.aufs", "").dir(".wh..wh.plnk").dir(".wh..wh.orph");
    upper.file("opaque/.wh..wh..opq", "").file("opaque/old", "").file("new/.wh..wh..opq", "");
    assert_eq!(
        aufs(&upper, &[&lower]),
        [
            "C /dir1",
            "C /dir1/file1-1",
            "D /dir1/file1-2",
            "C /dir1/subfolder",
            "A /dir1/subfolder/newFile",
            "A /new",
            "D /opaque",
            "A /opaque/old",
        ]
    );
    let top = Tree::new();
    top.file("dir1/file1-2", "").file("opaque/old", "").settle();
    assert_eq!(aufs(&top, &[&upper, &lower]), ["C /dir1", "A /dir1/file1-2", "C /opaque", "C /opaque/old"]);
}

#[test]
#[ignore = "needs root"]
fn fuse_overlayfs_marks_in_all_forms() {
    let (upper, lower) = (Tree::new(), Tree::new());
    for dir in ["a", "b", "c", "d", "merged"] {
        lower.file(&format!("{dir}/old"), "");
    }
    lower.file("file", "").file("device", "").settle();
    upper.file("a/.wh..wh..opq", "").whiteout("a/.wh..opq");
    upper.dir("b").xattr("b", "trusted.overlay.opaque", b"y");
    upper.dir("c").xattr("c", "user.overlay.opaque", b"y");
    upper.dir("d").xattr("d", "user.fuseoverlayfs.opaque", b"y");
    upper.file("merged/new", "").file(".wh.file", "").whiteout("device").file("fresh/.wh..wh..opq", "");
    let found = fuse(&upper, &[&lower]);
    let expected =
        ["D /a", "D /b", "D /c", "D /d", "D /device", "D /file", "A /fresh", "C /merged", "A /merged/new"];
    assert_eq!(found, expected);
    let stack = LayerStack::fuse_overlay(roots(&upper, &[&lower])).unwrap();
    let export = Export::layer(&stack, 1, ExportOptions::default());
    let names = [
        "0 .wh.file",
        "5 a/",
        "0 a/.wh..wh..opq",
        "5 b/",
        "0 b/.wh..wh..opq",
        "5 c/",
        "0 c/.wh..wh..opq",
        "5 d/",
        "0 d/.wh..wh..opq",
        "0 .wh.device",
        "5 fresh/",
        "5 merged/",
        "0 merged/new",
    ];
    assert_eq!(listed(&read(export)), names);
    // What the layer hides is hidden from the layers above it.
    let top = Tree::new();
    top.file("file", "").file("device", "").file("a/old", "").file("merged/old", "").settle();
    let found = fuse(&top, &[&upper, &lower]);
    let expected = ["C /a", "A /a/old", "A /device", "A /file", "C /merged", "C /merged/old"];
    assert_eq!(found, expected);
}
