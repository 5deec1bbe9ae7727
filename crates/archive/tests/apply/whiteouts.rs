//! Whiteouts and opaque marks, in each mode.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use graphdriver_archive::whiteout::OverlayXattrs;
use graphdriver_archive::{ApplyOptions, ErrorKind, RootDir, WhiteoutMode};
use nix::sys::stat::{Mode, SFlag, mknod};

use super::support::{Archive, Dest, xattr};

const OVERLAY: WhiteoutMode = WhiteoutMode::Overlay(OverlayXattrs::Trusted);

fn files(names: &[&str]) -> Archive {
    names.iter().fold(Archive::new(), |archive, name| match name.strip_suffix('/') {
        Some(_) => archive.dir(name),
        None => archive.file(name, ""),
    })
}

/// Four layers, the one applied on the other, and what is there after each.
const LAYERS: [(&[&str], &[&str]); 4] = [
    (
        &[
            "bar/",
            "bar/bax",
            "bar/bay/",
            ".baz",
            "baz",
            "foobar/",
            "foobar/x",
            "foo/",
            "foo/.abc",
            "foo/.bcd/",
            "foo/.bcd/a",
            "foo/cde/",
            "foo/cde/def",
            "foo/fgh",
        ],
        &[
            ".baz = ",
            "bar/",
            "bar/bax = ",
            "bar/bay/",
            "baz = ",
            "foo/",
            "foo/.abc = ",
            "foo/.bcd/",
            "foo/.bcd/a = ",
            "foo/cde/",
            "foo/cde/def = ",
            "foo/fgh = ",
            "foobar/",
            "foobar/x = ",
        ],
    ),
    (
        &[".bay", ".wh.baz", "foo/", "foo/.bce", "foo/.wh..wh..opq", "foo/cde/", "foo/cde/efg"],
        &[
            ".bay = ",
            ".baz = ",
            "bar/",
            "bar/bax = ",
            "bar/bay/",
            "foo/",
            "foo/.bce = ",
            "foo/cde/",
            "foo/cde/efg = ",
            "foobar/",
            "foobar/x = ",
        ],
    ),
    (
        &[".wh..baz", ".wh.foobar", "foo/", "foo/.abc", "foo/.wh.cde", "bar/"],
        &[".bay = ", "bar/", "bar/bax = ", "bar/bay/", "foo/", "foo/.abc = ", "foo/.bce = "],
    ),
    (&[".abc", ".wh..wh..opq", "foobar"], &[".abc = ", "foobar = "]),
];

#[test]
fn four_layers_in_turn() {
    let dest = Dest::new();
    for (layer, (names, expected)) in LAYERS.into_iter().enumerate() {
        dest.apply(&files(names)).unwrap();
        assert_eq!(dest.list(), expected, "after layer {layer}");
    }
}

/// The same four layers side by side, mounted on one another.
#[test]
#[ignore = "needs root"]
fn four_layers_in_overlays_form() {
    let work = Dest::new();
    let mut lowers: Vec<String> = Vec::new();
    for (index, (names, expected)) in LAYERS.into_iter().enumerate() {
        let layer = work.path(&format!("layer{index}"));
        fs::create_dir(&layer).unwrap();
        let options = ApplyOptions {
            whiteouts: OVERLAY,
            lowers: lowers.iter().map(|lower| RootDir::open(lower).unwrap()).collect(),
            ..ApplyOptions::default()
        };
        let root = RootDir::open(&layer).unwrap();
        graphdriver_archive::apply(&root, &mut &files(names).bytes()[..], &options).unwrap();
        lowers.insert(0, layer.to_str().unwrap().to_owned());
        let merged = Merged::mount(&lowers);
        assert_eq!(merged.0.list(), expected, "after layer {index}");
    }
}

/// Layers mounted read-only on one another; the first is on top.
struct Merged(Dest);

impl Merged {
    fn mount(lowers: &[String]) -> Self {
        let dest = Dest::new();
        // One layer alone is no overlay; an empty one below changes nothing.
        let options = format!("lowerdir={}:{}", lowers.join(":"), dest.path("../victim").display());
        let empty = dest.path("../victim/hello");
        fs::remove_file(&empty).unwrap();
        let command = std::process::Command::new("mount")
            .args(["-t", "overlay", "-o", &options, "overlay"])
            .arg(dest.path(""))
            .status();
        assert!(command.unwrap().success());
        Self(dest)
    }
}

impl Drop for Merged {
    fn drop(&mut self) {
        let status = std::process::Command::new("umount").arg(self.0.path("")).status();
        assert!(status.unwrap().success());
    }
}

#[test]
fn whiteouts_act_where_they_stand_in_the_archive() {
    let dest = Dest::new();
    fs::create_dir_all(dest.path("dir/sub")).unwrap();
    fs::write(dest.path("dir/old"), "").unwrap();
    let archive = Archive::new()
        .file("a", "1")
        .file(".wh.a", "")
        .file(".wh.b", "")
        .file("b", "2")
        .file("dir/new", "3")
        .file("dir/.wh..wh..opq", "")
        .file("missing/.wh.x", "")
        .file("missing/.wh..wh..opq", "");
    dest.apply(&archive).unwrap();
    assert_eq!(dest.list(), ["b = 2", "dir/", "dir/new = 3"]);
}

#[test]
fn an_opaque_mark_spares_what_implied_directories_hold() {
    let dest = Dest::new();
    fs::create_dir_all(dest.path("a/b/c")).unwrap();
    fs::write(dest.path("a/b/old"), "").unwrap();
    dest.apply(&Archive::new().file("a/b/c/new", "1").file("a/.wh..wh..opq", "")).unwrap();
    assert_eq!(dest.list(), ["a/", "a/b/", "a/b/c/", "a/b/c/new = 1"]);
}

#[test]
fn whiteouts_of_nothing_are_refused() {
    for name in [".wh.", "dir/.wh.", ".wh..", ".wh...", "dir/.wh..."] {
        for mode in [WhiteoutMode::Execute, OVERLAY] {
            let error = Dest::new().apply_as(&Archive::new().file(name, ""), mode).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArchive, "{name}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}

#[test]
fn aufs_keeps_its_files() {
    let dest = Dest::new();
    let archive = files(&[".wh..wh.aufs", ".wh..wh.orph/", "dir/.wh..wh..opq", "dir/.wh.x", "dir/x"]);
    dest.apply_as(&archive, WhiteoutMode::Aufs).unwrap();
    let expected =
        [".wh..wh.aufs = ", ".wh..wh.orph/", "dir/", "dir/.wh..wh..opq = ", "dir/.wh.x = ", "dir/x = "];
    assert_eq!(dest.list(), expected);
}

/// fuse-overlayfs hides what a `.wh.` file names in the same layer too, so the later of the two stays alone.
#[test]
fn fuse_overlayfs_has_files() {
    let dest = Dest::new();
    let archive = files(&[
        "dir/.wh..wh..opq",
        "dir/.wh.x",
        ".wh.y",
        "kept",
        ".wh.kept",
        ".wh.back",
        "back",
        ".wh.again",
        "again/inside",
        ".wh.twice/",
        "twice/",
        ".wh.gone",
        "gone/.wh.x",
        "gone/.wh..wh..opq",
        "file",
        "file/",
        ".wh..wh.aufs",
    ]);
    dest.apply_as(&archive, WhiteoutMode::Fuse).unwrap();
    let expected = [
        ".wh.gone = ",
        ".wh.kept = ",
        ".wh.y = ",
        "again/",
        "again/.wh..wh..opq = ",
        "again/inside = ",
        "back = ",
        "dir/",
        "dir/.wh..wh..opq = ",
        "dir/.wh.x = ",
        "file/",
        "file/.wh..wh..opq = ",
        "twice/",
        "twice/.wh..wh..opq = ",
    ];
    assert_eq!(dest.list(), expected);
}

#[test]
#[ignore = "needs root"]
fn overlays_form_has_devices_and_an_attribute() {
    let dest = Dest::new();
    let archive = files(&[
        "dir/",
        "dir/.wh..wh..opq",
        "dir/.wh.x",
        ".wh.y",
        "implied/.wh..wh..opq",
        "kept",
        ".wh.kept",
        ".wh.back",
        "back",
    ]);
    dest.apply_as(&archive, OVERLAY).unwrap();
    let expected = ["back = ", "dir/", "dir/x (whiteout)", "implied/", "kept (whiteout)", "y (whiteout)"];
    assert_eq!(dest.list(), expected);
    assert_eq!(dest.stat("y").permissions().mode() & 0o7777, 0);
    for (path, opaque) in [("dir", true), ("implied", true)] {
        let value = xattr(&dest.path(path), "trusted.overlay.opaque");
        assert_eq!(value.as_deref(), opaque.then_some(&b"y"[..]), "{path}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_directory_in_place_of_a_whiteout_is_opaque() {
    let dest = Dest::new();
    let archive = files(&[
        ".wh.a",
        "a/",
        ".wh.b",
        "b/inside",
        ".wh.c",
        "c/.wh.x",
        "c/.wh..wh..opq",
        ".wh.d",
        "d/.wh.x/y",
        "e/",
    ]);
    dest.apply_as(&archive, OVERLAY).unwrap();
    let expected = ["a/", "b/", "b/inside = ", "c (whiteout)", "d/", "d/.wh.x/", "d/.wh.x/y = ", "e/"];
    assert_eq!(dest.list(), expected);
    for (path, opaque) in [("a", true), ("b", true), ("d", true), ("e", false)] {
        let value = xattr(&dest.path(path), "trusted.overlay.opaque");
        assert_eq!(value.as_deref(), opaque.then_some(&b"y"[..]), "{path}");
    }
}

/// In a directory that only this layer has, a mount would list the mark itself.
#[test]
#[ignore = "needs root"]
fn what_is_not_below_needs_no_whiteout() {
    let (upper, lower) = (Dest::new(), Dest::new());
    fs::create_dir_all(lower.path("both")).unwrap();
    fs::write(lower.path("both/below"), "").unwrap();
    fs::write(lower.path("file"), "").unwrap();
    let options = ApplyOptions { whiteouts: OVERLAY, lowers: vec![lower.root()], ..ApplyOptions::default() };
    let archive = files(&[
        "both/.wh.below",
        "both/.wh.missing",
        "none/.wh.missing",
        "new/",
        "new/mine",
        "new/.wh.mine",
        "file/.wh.missing",
        ".wh.missing",
    ]);
    upper.apply_with(&archive, &options).unwrap();
    assert_eq!(upper.list(), ["both/", "both/below (whiteout)", "new/"]);
}

#[test]
#[ignore = "needs root"]
fn a_whiteout_is_no_target_of_a_link() {
    let error = Dest::new().apply_as(&files(&[".wh.a"]).link("b", "a"), OVERLAY).unwrap_err();
    assert!(error.to_string().contains("not in this layer"), "{error}");
}

#[test]
#[ignore = "needs root"]
fn implied_directories_look_like_those_below() {
    let (upper, middle, lower) = (Dest::new(), Dest::new(), Dest::new());
    for dest in [&middle, &lower] {
        fs::create_dir_all(dest.path("seen/sub")).unwrap();
    }
    for hidden in ["whiteout/sub", "file/sub", "opaque/sub", "deep/a/b"] {
        fs::create_dir_all(lower.path(hidden)).unwrap();
    }
    for path in [
        "seen",
        "seen/sub",
        "whiteout",
        "whiteout/sub",
        "file",
        "file/sub",
        "opaque",
        "opaque/sub",
        "deep",
        "deep/a",
    ] {
        fs::set_permissions(lower.path(path), fs::Permissions::from_mode(0o700)).unwrap();
    }
    fs::set_permissions(middle.path("seen"), fs::Permissions::from_mode(0o1777)).unwrap();
    std::os::unix::fs::chown(middle.path("seen"), Some(7), Some(8)).unwrap();
    mknod(&middle.path("whiteout"), SFlag::S_IFCHR, Mode::empty(), 0).unwrap();
    fs::write(middle.path("file"), "").unwrap();
    fs::create_dir(middle.path("opaque")).unwrap();
    let opaque = fs::File::open(middle.path("opaque")).unwrap();
    graphdriver_sys::xattr::fset(
        &opaque,
        "trusted.overlay.opaque",
        b"y",
        graphdriver_sys::xattr::SetFlags::empty(),
    )
    .unwrap();
    let options = ApplyOptions {
        whiteouts: OVERLAY,
        lowers: vec![middle.root(), lower.root()],
        ..ApplyOptions::default()
    };
    let archive =
        files(&["seen/sub/x", "whiteout/sub/x", "file/sub/x", "opaque/sub/x", "deep/a/x", "none/x"]);
    upper.apply_with(&archive, &options).unwrap();
    for (path, mode) in [
        ("seen", 0o1777),
        ("seen/sub", 0o755),
        ("whiteout", 0o755),
        ("whiteout/sub", 0o755),
        ("file/sub", 0o755),
        ("opaque/sub", 0o755),
        ("deep", 0o700),
        ("deep/a", 0o700),
        ("none", 0o755),
    ] {
        assert_eq!(upper.stat(path).permissions().mode() & 0o7777, mode, "{path}");
    }
    assert_eq!((upper.stat("seen").uid(), upper.stat("seen").gid()), (7, 8));
    assert_eq!(upper.stat("seen").mtime_nsec(), middle.stat("seen").mtime_nsec());
    assert_eq!(xattr(&upper.path("opaque"), "trusted.overlay.opaque"), None);
}
