//! Layers on disk, in overlay and in AUFS form, as archives.

use graphdriver_archive::whiteout::OverlayXattrs::{self, Trusted, User};
use graphdriver_archive::{ErrorKind, Export, ExportOptions, LayerStack};

use crate::export::{listed, read};
use crate::support::{Tree, printed};

fn overlay(upper: &Tree, lowers: &[&Tree], xattrs: OverlayXattrs) -> Vec<u8> {
    layer(upper, lowers, 1, xattrs)
}

/// The archive of `upper` and the first `own` - 1 of `lowers`, against the others.
fn layer(upper: &Tree, lowers: &[&Tree], own: usize, xattrs: OverlayXattrs) -> Vec<u8> {
    let roots = std::iter::once(&upper).chain(lowers).map(|tree| tree.root()).collect();
    read(Export::layer(&LayerStack::overlay(roots, xattrs), own, ExportOptions::default()))
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

const REDIRECT: &str = "user.overlay.redirect";
const METACOPY: &str = "user.overlay.metacopy";
const OPAQUE: &str = "user.overlay.opaque";

#[test]
fn a_renamed_directory_is_written_with_all_that_shows_in_it() {
    let (upper, middle, bottom) = (Tree::new(), Tree::new(), Tree::new());
    bottom.file("old/a", "a").file("old/sub/b", "b").file("there/hidden", "");
    middle.dir("old").file("old/middle", "m").file("old/sub", "a file hides").dir("there");
    upper.dir("new").xattr("new", REDIRECT, b"/old").file("new/own", "o");
    upper.dir("there").xattr("there", REDIRECT, b"/old");
    let below = ["0 new/a", "0 new/middle", "0 new/own", "0 new/sub", "5 there/", "0 there/.wh..wh..opq"];
    let names = [&["5 new/"][..], &below, &["0 there/a", "0 there/middle", "0 there/sub"]].concat();
    assert_eq!(listed(&overlay(&upper, &[&middle, &bottom], User)), names);
    // Renamed back, it is what it was.
    let back = Tree::new();
    back.dir("old").xattr("old", REDIRECT, b"/old").file("old/new", "");
    assert_eq!(listed(&overlay(&back, &[&middle, &bottom], User)), ["5 old/", "0 old/new"]);
    assert_eq!(listed(&overlay(&back, &[], User)), ["5 old/", "0 old/new"]);
}

#[test]
fn a_file_with_metadata_only_is_written_with_its_contents() {
    let (upper, lower) = (Tree::new(), Tree::new());
    lower.file("dir/file", "contents").file("elsewhere", "elsewhere");
    upper.file("dir/file", "").xattr("dir/file", METACOPY, b"").mode("dir/file", 0o640);
    upper.file("moved", "").xattr("moved", METACOPY, b"").xattr("moved", REDIRECT, b"/elsewhere");
    upper.link("moved-too", "moved");
    for (path, bytes) in [("dir/file", 8), ("moved", 9)] {
        std::fs::File::options().write(true).open(upper.path(path)).unwrap().set_len(bytes).unwrap();
    }
    let archive = overlay(&upper, &[&lower], User);
    assert_eq!(listed(&archive), ["5 dir/", "0 dir/file", "0 moved", "1 moved-too -> moved"]);
    let copy = Tree::new();
    graphdriver_archive::apply(
        &copy.root(),
        &mut &archive[..],
        &graphdriver_archive::ApplyOptions::default(),
    )
    .unwrap();
    assert_eq!(std::fs::read(copy.path("dir/file")).unwrap(), b"contents");
    assert_eq!(std::fs::read(copy.path("moved-too")).unwrap(), b"elsewhere");
}

#[test]
fn what_cannot_be_followed_fails_with_its_path() {
    let (renamed, emptied, lower) = (Tree::new(), Tree::new(), Tree::new());
    renamed.file("a/file", "").xattr("a", REDIRECT, b"/../b");
    emptied.file("a", "").xattr("a", METACOPY, b"");
    for (tree, kind) in [(&renamed, ErrorKind::PathEscape), (&emptied, ErrorKind::Io)] {
        let stack = LayerStack::overlay(vec![tree.root(), lower.root()], User);
        let mut export = Export::layer(&stack, 1, ExportOptions::default());
        let error = std::io::Read::read_to_end(&mut export, &mut Vec::new()).unwrap_err();
        let error = error.into_inner().unwrap().downcast::<graphdriver_archive::Error>().unwrap();
        assert_eq!((error.kind(), error.failed_path().unwrap().to_str()), (kind, Some("a")));
    }
}

#[test]
fn several_directories_are_one_layer() {
    let (upper, older, lower) = (Tree::new(), Tree::new(), Tree::new());
    lower.file("kept/a", "").file("replaced/a", "").file("gone", "").file("file", "lower");
    older.file("kept/b", "").file("replaced", "a file").file("file", "older").dir("only").file("only/x", "");
    older.file("marked/gone", "").file("marked/new", "").xattr("marked", OPAQUE, b"x");
    older.xattr("marked/gone", "user.overlay.whiteout", b"");
    lower.file("marked/gone", "");
    upper.file("kept/c", "").file("replaced/new", "").file("file", "upper").file("only/y", "");
    let archive = layer(&upper, &[&older, &lower], 2, User);
    let names = [
        "0 file",
        "5 kept/",
        "0 kept/b",
        "0 kept/c",
        "5 marked/",
        "0 marked/.wh.gone",
        "0 marked/new",
        "5 only/",
        "0 only/x",
        "0 only/y",
        "5 replaced/",
        "0 replaced/.wh..wh..opq",
        "0 replaced/new",
    ];
    assert_eq!(listed(&archive), names);
    assert!(
        archive.windows(5).any(|window| window == b"upper")
            && !archive.windows(5).any(|window| window == b"older")
    );
    // All of them are the whole tree, without any mark.
    let whole = listed(&layer(&upper, &[&older, &lower], 3, User));
    assert!(whole.iter().all(|name| !name.contains(".wh.")), "{whole:?}");
    assert!(whole.contains(&"0 gone".to_owned()) && whole.contains(&"0 kept/a".to_owned()), "{whole:?}");
}

#[test]
fn several_directories_with_whiteouts_by_name_are_one_layer() {
    let (upper, older, lower) = (Tree::new(), Tree::new(), Tree::new());
    lower.file("gone", "").file("anew", "").file("dir/a", "").file("late", "");
    older.file(".wh.gone", "").file(".wh.anew", "").file(".wh.dir", "").file("late", "").file("own", "");
    upper.file("anew", "").file("dir/b", "").file(".wh.late", "").file(".wh.own", "");
    let stack = LayerStack::fuse_overlay([&upper, &older, &lower].map(Tree::root).to_vec()).unwrap();
    let archive = read(Export::layer(&stack, 2, ExportOptions::default()));
    let names = ["0 .wh.gone", "0 .wh.late", "0 anew", "5 dir/", "0 dir/.wh..wh..opq", "0 dir/b"];
    assert_eq!(listed(&archive), names);
    let changes = printed(&graphdriver_archive::layer_changes(&stack, 2).unwrap());
    assert_eq!(changes, ["C /anew", "D /dir", "A /dir/b", "D /gone", "D /late"]);
}

/// More directories than are kept open, and deeper than is kept open.
#[test]
fn many_directories_and_levels_come_together() {
    let layers: Vec<Tree> = (0..150).map(|_| Tree::new()).collect();
    let deep = "d/".repeat(40);
    for (index, layer) in layers.iter().enumerate() {
        layer
            .file(&format!("dir/sub/{index:03}"), "")
            .file(&format!("{deep}{index:03}"), "")
            .file(&format!("d/z{index:03}"), "");
    }
    let lowers: Vec<&Tree> = layers[1..].iter().collect();
    let whole = listed(&layer(&layers[0], &lowers, 150, User));
    assert_eq!(whole.len(), 40 + 2 + 3 * 150);
    let half = listed(&layer(&layers[0], &lowers, 75, User));
    assert_eq!(half.len(), 40 + 2 + 3 * 75);
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
    let stack = LayerStack::aufs(vec![rw.root()]);
    let archive = read(Export::layer(&stack, 1, ExportOptions::default()));
    assert_eq!(listed(&archive), ["0 .wh.top", "5 dir/", "0 dir/.wh..wh..opq", "0 dir/.wh.gone", "0 dir/x"]);
}
