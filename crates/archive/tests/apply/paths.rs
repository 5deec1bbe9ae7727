//! Names and links that try to leave the root.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use graphdriver_archive::ErrorKind;

use super::support::{Archive, Dest};

#[test]
fn names_that_leave_are_refused() {
    for name in ["../victim/dotdot", "/../victim/slash-dotdot", "a/../../victim/dotdot", ".."] {
        let error = Dest::new().apply(&Archive::new().file(name, "evil")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PathEscape, "{name}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn legal_names_are_not() {
    let dest = Dest::new();
    let archive = Archive::new().file("..gitme", "1").file("/absolute", "2").file("./a/../b//c", "3");
    dest.apply(&archive).unwrap();
    assert_eq!(dest.list(), ["..gitme = 1", "absolute = 2", "b/", "b/c = 3"]);
}

#[test]
fn hard_links_that_leave_are_refused() {
    let link = |name, target| Archive::new().link(name, target);
    for archive in [
        link("dotdot", "../victim/hello"),
        link("slash-dotdot", "/../victim/hello"),
        link("loophole", "../victim").file("loophole/file", "evil"),
        link("loophole", "../victim").symlink("symlink", "loophole/hello"),
        link("loophole", "../victim").link("hardlink", "loophole/hello"),
        link("hello", "../victim/hello").file("hello", "evil"),
    ] {
        let error = Dest::new().apply(&archive).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PathEscape);
        assert!(error.to_string().contains("../victim"), "{error}");
    }
}

#[test]
fn symbolic_links_that_leave_are_kept_and_lead_nowhere() {
    let link = |name, target| Archive::new().symlink(name, target);
    for (archive, refused) in [
        (link("dotdot", "../victim/hello"), false),
        (link("slash-dotdot", "/../victim/hello"), false),
        (link("loophole", "../victim").file("loophole/file", "evil"), true),
        (link("loophole", "../victim").symlink("symlink", "loophole/hello"), false),
        (link("loophole", "../victim").link("hardlink", "loophole/hello"), true),
        (link("hello", "../victim/hello").file("hello", "good"), false),
        (link("a", "..").symlink("a/b", "..").file("a/b/victim/hello", "evil"), false),
        (link("loophole", "/proc/self/cwd/../victim").dir("loophole/").file("loophole/hello", "good"), false),
    ] {
        let result = Dest::new().apply(&archive);
        match result {
            Ok(_) => assert!(!refused),
            Err(error) => assert!(refused && error.kind() == ErrorKind::InvalidArchive, "{error}"),
        }
    }
}

#[test]
fn links_of_an_earlier_layer_do_not_lead_out_either() {
    let dest = Dest::new();
    let victim = dest.path("../victim");
    symlink(&victim, dest.path("absolute")).unwrap();
    symlink("../victim", dest.path("relative")).unwrap();
    for name in ["absolute/hello", "relative/hello", "absolute/.wh.hello", "relative/.wh..wh..opq"] {
        let result = dest.apply(&Archive::new().file(name, "evil"));
        assert_eq!(result.is_err(), !name.contains(".wh."), "{name}");
    }
    assert_eq!(dest.list().len(), 2);
}

#[test]
fn entries_go_through_links_inside_the_root() {
    let dest = Dest::new();
    let archive = Archive::new()
        .dir("usr/lib/")
        .symlink("lib", "usr/lib")
        .symlink("usr/lib64", "/lib")
        .file("lib/a", "1")
        .file("usr/lib64/b", "2")
        .symlink("up", "../../../usr")
        .file("up/c", "3");
    dest.apply(&archive).unwrap();
    assert_eq!(dest.read("usr/lib/a") + &dest.read("usr/lib/b") + &dest.read("usr/c"), "123");
}

#[test]
fn a_replaced_link_is_not_gone_through_any_more() {
    let dest = Dest::new();
    let archive = Archive::new()
        .dir("one/")
        .dir("two/")
        .symlink("via", "one")
        .file("via/a", "1")
        .symlink("via", "two")
        .file("via/b", "2")
        .file(".wh.via", "")
        .file("via/c", "3");
    dest.apply(&archive).unwrap();
    assert_eq!(dest.list(), ["one/", "one/a = 1", "two/", "two/b = 2", "via/", "via/c = 3"]);
}

#[test]
fn names_are_bytes() {
    let dest = Dest::new();
    let name = b"new\nline and \xff\xfe";
    dest.apply(&Archive::new().pax(b'x', &[("path", name)]).file("x", "1")).unwrap();
    let found = fs::read_dir(dest.path("")).unwrap().next().unwrap().unwrap();
    assert_eq!(found.file_name().as_bytes(), name);
}

#[test]
fn deep_paths_and_missing_directories() {
    let dest = Dest::new();
    let deep = "d/".repeat(1500) + "file";
    dest.apply(&Archive::new().pax(b'x', &[("path", deep.as_bytes())]).file("x", "deep")).unwrap();
    assert_eq!(dest.read(&deep), "deep");
    let longer = "d/".repeat(2100) + "file";
    let error =
        dest.apply(&Archive::new().pax(b'x', &[("path", longer.as_bytes())]).file("x", "")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArchive);
}

#[test]
fn a_file_is_no_directory() {
    let error = Dest::new().apply(&Archive::new().file("a", "").file("a/b", "")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArchive);
    assert!(
        error.to_string().contains("\"a\": a directory that entries are in is not a directory"),
        "{error}"
    );
    let error = Dest::new().apply(&Archive::new().file("./", "")).unwrap_err();
    assert!(error.to_string().contains("root"), "{error}");
}
