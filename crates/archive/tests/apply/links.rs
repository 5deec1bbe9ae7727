//! Hard links in any order.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use graphdriver_archive::{ErrorKind, WhiteoutMode};

use super::support::{Archive, Dest};

#[test]
fn targets_may_come_later_and_be_links_themselves() {
    let dest = Dest::new();
    let mut archive = Archive::new();
    for index in (1..50).rev() {
        archive = archive.link(&format!("link-{index}"), &format!("link-{}", index - 1));
    }
    dest.apply(&archive.link("dir/other", "./link-0").file("link-0", "content")).unwrap();
    assert_eq!(dest.stat("link-0").nlink(), 51);
    assert_eq!(dest.read("dir/other"), "content");
}

#[test]
fn a_target_that_never_comes_is_named() {
    for archive in [
        Archive::new().link("link", "missing"),
        Archive::new().link("link", "missing/deep"),
        Archive::new().link("a", "link").link("link", "missing"),
        Archive::new()
            .file("missing", "")
            .link("x", "missing")
            .file(".wh.missing", "")
            .link("link", "missing"),
    ] {
        let error = Dest::new().apply(&archive).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArchive);
        let text = error.to_string();
        assert!(text.contains("\"link\"") && text.contains("missing"), "{text}");
    }
    for archive in [
        Archive::new().link("a", "b").link("b", "a"),
        Archive::new().link("a", "a"),
        Archive::new().link("a", ""),
        Archive::new().dir("d").link("a", "d"),
    ] {
        assert_eq!(Dest::new().apply(&archive).unwrap_err().kind(), ErrorKind::InvalidArchive);
    }
}

#[test]
fn links_replace_and_are_replaced_in_order() {
    let dest = Dest::new();
    let archive = Archive::new()
        // Replaced before its target comes.
        .link("a", "target")
        .file("a", "no link")
        // Removed, alone and with the directory that it is in.
        .link("b", "target")
        .file(".wh.b", "")
        .link("dir/c", "target")
        .file(".wh.dir", "")
        .link("e/c", "target")
        .file("e", "no directory")
        // Takes the place of a file.
        .file("f", "old")
        .link("f", "target")
        .file("target", "1")
        // The same link twice, and a link to itself.
        .link("g", "target")
        .link("g", "target")
        .link("g", "g");
    dest.apply(&archive).unwrap();
    assert_eq!(dest.list(), ["a = no link", "e = no directory", "f = 1", "g = 1", "target = 1"]);
    assert_eq!(dest.stat("target").nlink(), 3);
}

#[test]
fn metadata_is_the_targets() {
    let dest = Dest::new();
    let mut header = Archive::header(b'0', "target");
    header.set_mode(0o600);
    dest.apply(&Archive::new().push(header, "1").link("link", "target")).unwrap();
    assert_eq!(dest.stat("link").permissions().mode() & 0o7777, 0o600);
}

#[test]
fn a_link_to_a_symbolic_link_is_that_link() {
    let dest = Dest::new();
    dest.apply(&Archive::new().file("file", "1").symlink("symlink", "file").link("link", "symlink")).unwrap();
    assert!(dest.stat("link").is_symlink());
    assert_eq!(dest.stat("link").ino(), dest.stat("symlink").ino());
}

#[test]
fn contents_that_aufs_keeps_for_links_become_copies() {
    let mut kept = Archive::header(b'0', ".wh..wh.plnk/155.2");
    kept.set_mode(0o640);
    let archive = Archive::new()
        .dir(".wh..wh.plnk/")
        .push(kept, vec![b'x'; 300_000])
        .file(".wh..wh.aufs", "")
        .dir(".wh..wh.orph/")
        .file(".wh..wh.orph/lost", "")
        .link("a", ".wh..wh.plnk/155.2")
        .link("dir/b", ".wh..wh.plnk/155.2");
    for mode in
        [WhiteoutMode::Execute, WhiteoutMode::Overlay(graphdriver_archive::whiteout::OverlayXattrs::User)]
    {
        let dest = Dest::new();
        dest.apply_as(&archive, mode).unwrap();
        assert_eq!(dest.list().len(), 3);
        for path in ["a", "dir/b"] {
            assert_eq!(fs::read(dest.path(path)).unwrap(), vec![b'x'; 300_000]);
            assert_eq!(dest.stat(path).permissions().mode() & 0o7777, 0o640);
        }
    }
    let error = Dest::new().apply(&Archive::new().link("a", ".wh..wh.plnk/1.2")).unwrap_err();
    assert!(error.to_string().contains("invalid aufs hardlink"), "{error}");
    let dest = Dest::new();
    dest.apply_as(&archive, WhiteoutMode::Aufs).unwrap();
    assert_eq!(dest.stat("a").ino(), dest.stat(".wh..wh.plnk/155.2").ino());
}
