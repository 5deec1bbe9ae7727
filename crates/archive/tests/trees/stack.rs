//! Files as a stack of directories shows them.

use std::io::Read;

use graphdriver_archive::whiteout::OverlayXattrs::User;
use graphdriver_archive::{ErrorKind, LayerStack, Result, RootDir};
use nix::errno::Errno;

use crate::support::Tree;

const REDIRECT: &str = "user.overlay.redirect";
const METACOPY: &str = "user.overlay.metacopy";
const OPAQUE: &str = "user.overlay.opaque";

fn roots(layers: &[&Tree]) -> Vec<RootDir> {
    layers.iter().map(|tree| tree.root()).collect()
}

fn read(stack: &LayerStack, path: &str) -> Result<String> {
    let mut text = String::new();
    stack.open_file(path.as_ref())?.read_to_string(&mut text).unwrap();
    Ok(text)
}

/// The contents of a file, or why there are none.
fn shown(layers: &[&Tree], path: &str) -> std::result::Result<String, Errno> {
    let stack = LayerStack::overlay(roots(layers), User);
    read(&stack, path).map_err(|error| error.errno().expect("a failure with an error number"))
}

#[test]
fn the_uppermost_layer_counts_and_opaque_directories_hide() {
    let (top, middle, bottom) = (Tree::new(), Tree::new(), Tree::new());
    bottom.file("dir/a", "bottom").file("dir/b", "bottom").file("opaque/c", "bottom").file("file", "bottom");
    middle.file("dir/a", "middle").file("opaque/d", "middle").file("file/below", "middle");
    top.file("opaque/e", "top").xattr("opaque", OPAQUE, b"y");
    let layers = [&top, &middle, &bottom];
    for (path, expected) in [
        ("dir/a", Ok("middle")),
        ("/dir/./b", Ok("bottom")),
        ("opaque/e", Ok("top")),
        ("opaque/d", Err(Errno::ENOENT)),
        ("opaque/c", Err(Errno::ENOENT)),
        ("file/below", Ok("middle")),
        ("dir", Err(Errno::EISDIR)),
        ("", Err(Errno::EISDIR)),
        ("nothing/here", Err(Errno::ENOENT)),
    ] {
        assert_eq!(shown(&layers, path), expected.map(str::to_owned), "{path}");
    }
    assert_eq!(shown(&[&bottom, &middle], "file/below"), Err(Errno::ENOENT));
}

#[test]
fn links_are_not_followed_and_lead_nowhere() {
    let (outside, layer) = (Tree::new(), Tree::new());
    outside.file("file", "secret");
    layer.symlink("link", outside.path("file").to_str().unwrap());
    layer.symlink("dir", outside.path("").to_str().unwrap());
    assert_eq!(shown(&[&layer], "link"), Err(Errno::ELOOP));
    assert_eq!(shown(&[&layer], "dir/file"), Err(Errno::ENOENT));
    let stack = LayerStack::overlay(roots(&[&layer]), User);
    assert_eq!(read(&stack, "../file").unwrap_err().kind(), ErrorKind::PathEscape);
}

#[test]
fn whiteouts_by_attribute_hide() {
    let (top, bottom) = (Tree::new(), Tree::new());
    bottom.file("marked/gone", "bottom").file("plain/kept", "bottom");
    top.file("marked/gone", "").xattr("marked", OPAQUE, b"x").xattr(
        "marked/gone",
        "user.overlay.whiteout",
        b"",
    );
    top.file("plain/kept", "").xattr("plain/kept", "user.overlay.whiteout", b"");
    assert_eq!(shown(&[&top, &bottom], "marked/gone"), Err(Errno::ENOENT));
    assert_eq!(shown(&[&top, &bottom], "plain/kept"), Ok(String::new()));
}

#[test]
fn renamed_directories_are_followed_through_every_layer() {
    let (top, middle, bottom) = (Tree::new(), Tree::new(), Tree::new());
    bottom.file("first/sub/file", "bottom").file("third/file", "another");
    middle.dir("second/sub").xattr("second", REDIRECT, b"first").file("second/own", "middle");
    top.dir("far/third").xattr("far/third", REDIRECT, b"/second").file("far/third/new", "top");
    let layers = [&top, &middle, &bottom];
    for (path, expected) in [
        ("second/sub/file", Ok("bottom")),
        ("second/own", Ok("middle")),
        ("far/third/sub/file", Ok("bottom")),
        ("far/third/own", Ok("middle")),
        ("far/third/new", Ok("top")),
        ("far/third/file", Err(Errno::ENOENT)),
    ] {
        assert_eq!(shown(&layers, path), expected.map(str::to_owned), "{path}");
    }
    // An opaque directory ends what a relative redirect in it could reach, but not an absolute one.
    let opaque = Tree::new();
    opaque.dir("dir/relative").xattr("dir/relative", REDIRECT, b"sub").xattr("dir", OPAQUE, b"y");
    opaque.dir("dir/absolute").xattr("dir/absolute", REDIRECT, b"/first/sub");
    bottom.file("dir/sub/file", "hidden");
    assert_eq!(shown(&[&opaque, &bottom], "dir/relative/file"), Err(Errno::ENOENT));
    assert_eq!(shown(&[&opaque, &bottom], "dir/absolute/file"), Ok("bottom".to_owned()));
}

#[test]
fn contents_are_found_below_the_metadata() {
    let (top, middle, bottom, data) = (Tree::new(), Tree::new(), Tree::new(), Tree::new());
    bottom.file("dir/file", "contents").dir("not-a-file");
    middle.file("dir/file", "").xattr("dir/file", METACOPY, b"");
    top.file("moved", "").xattr("moved", METACOPY, b"").xattr("moved", REDIRECT, b"/dir/file");
    top.file("dir/renamed", "").xattr("dir/renamed", METACOPY, b"").xattr("dir/renamed", REDIRECT, b"file");
    top.file("lost", "").xattr("lost", METACOPY, b"").file("not-a-file", "").xattr(
        "not-a-file",
        METACOPY,
        b"",
    );
    top.file("far", "").xattr("far", METACOPY, b"").xattr("far", REDIRECT, b"/objects/1");
    data.file("objects/1", "data only");
    let layers = [&top, &middle, &bottom];
    for (path, expected) in [
        ("moved", Ok("contents")),
        ("dir/renamed", Ok("contents")),
        ("dir/file", Ok("contents")),
        ("lost", Err(Errno::EIO)),
        ("not-a-file", Err(Errno::EIO)),
        ("far", Err(Errno::EIO)),
    ] {
        assert_eq!(shown(&layers, path), expected.map(str::to_owned), "{path}");
    }
    let stack = LayerStack::overlay(roots(&layers), User).with_data_only(roots(&[&data]));
    assert_eq!(read(&stack, "far").unwrap(), "data only");
    assert_eq!(read(&stack, "objects/1").unwrap_err().errno(), Some(Errno::ENOENT));
}

#[test]
fn hostile_redirects_are_refused_or_lead_to_nothing() {
    let bottom = Tree::new();
    bottom.file("dir/file", "bottom");
    let long_name = [b"/".to_vec(), vec![b'x'; 300]].concat();
    let long_path = b"/dir".repeat(500);
    for (redirect, expected) in [
        (&b"../.."[..], Errno::EINVAL),
        (b"..", Errno::EACCES),
        (b"/../etc", Errno::EACCES),
        (b"/./dir", Errno::EACCES),
        (b"", Errno::EINVAL),
        (b"/", Errno::EINVAL),
        (b"//dir", Errno::EINVAL),
        (b"/dir/", Errno::EINVAL),
        (b"dir/sub", Errno::EINVAL),
        (b"/missing", Errno::ENOENT),
        (b"/dir/file", Errno::ENOENT),
        (&long_name, Errno::ENOENT),
        (&long_path, Errno::ENOENT),
    ] {
        let top = Tree::new();
        top.dir("moved").xattr("moved", REDIRECT, redirect);
        assert_eq!(shown(&[&top, &bottom], "moved/file"), Err(expected), "{redirect:?}");
    }
    // Each layer sends the next one on; the last that there is ends it.
    let layers: Vec<Tree> = (0..50).map(|_| Tree::new()).collect();
    for (index, layer) in layers.iter().enumerate() {
        let (one, other) = if index % 2 == 0 { ("a", "/b") } else { ("b", "/a") };
        layer.dir(one).xattr(one, REDIRECT, other.as_bytes());
    }
    let layers: Vec<&Tree> = layers.iter().collect();
    assert_eq!(shown(&layers, "a/file"), Err(Errno::ENOENT));
}
