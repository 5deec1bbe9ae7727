//! What tar programs write.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;

use graphdriver_archive::{ApplyOptions, apply};

use super::support::{Archive, Dest};

#[test]
fn global_headers_are_passed_over() {
    let dest = Dest::new();
    let archive =
        Archive::new().pax(b'g', &[("comment", b"0123456789"), ("path", b"elsewhere")]).file("file", "1");
    let applied = dest.apply(&archive).unwrap();
    assert_eq!(dest.list(), ["file = 1"]);
    assert_eq!(applied.entries, 1);
}

#[test]
fn a_prefix_counts_under_gnu_magic_too() {
    let dest = Dest::new();
    let mut header = Archive::header(b'0', "lib/Plack::Middleware.3pm");
    header.as_mut_bytes()[345..345 + 18].copy_from_slice(b"root/work/1.24/man");
    dest.apply(&Archive::new().push(header, "1")).unwrap();
    assert_eq!(dest.read("root/work/1.24/man/lib/Plack::Middleware.3pm"), "1");
}

#[test]
fn old_and_contiguous_types_are_files() {
    let dest = Dest::new();
    let archive = Archive::new()
        .push(Archive::header(0, "old"), "1")
        .push(Archive::header(b'7', "contiguous"), "2")
        .push(Archive::header(0, "old-dir/"), "");
    dest.apply(&archive).unwrap();
    assert_eq!(dest.list(), ["contiguous = 2", "old = 1", "old-dir/"]);
}

#[test]
fn an_empty_stream_is_an_empty_layer() {
    let dest = Dest::new();
    let applied = apply(&dest.root(), &mut &[][..], &ApplyOptions::default()).unwrap();
    assert_eq!((applied.entries, applied.bytes), (0, 0));
}

/// A file with holes before, between and after `parts`.
fn sparse_file(path: &std::path::Path, parts: u64) {
    let file = File::create(path).unwrap();
    for part in 0..parts {
        file.write_all_at(format!("part {part}").as_bytes(), part * 1_000_000 + 300_000).unwrap();
    }
    file.set_len(parts * 1_000_000 + 700_000).unwrap();
}

#[test]
#[ignore = "needs GNU tar"]
fn sparse_files_of_every_form_of_gnu_tar() {
    let source = Dest::new();
    // More parts than a header has room for, and a map of several blocks.
    for parts in [0, 1, 3, 30, 90] {
        sparse_file(&source.path(&format!("sparse-{parts}")), parts);
    }
    fs::write(source.path("dense"), "dense").unwrap();
    for form in [
        &["--format=gnu"][..],
        &["--sparse-version=0.0"],
        &["--sparse-version=0.1"],
        &["--sparse-version=1.0"],
    ] {
        let tar = source.path("../layer.tar");
        let posix: &[&str] = if form == ["--format=gnu"] { &[] } else { &["--format=posix"] };
        let made = Command::new("tar")
            .args(["--sparse", "-c", "-f"])
            .arg(&tar)
            .args(posix)
            .args(form)
            .arg("-C")
            .arg(source.path(""))
            .arg(".")
            .status();
        assert!(made.unwrap().success());
        assert!(fs::metadata(&tar).unwrap().len() < 10_000_000, "{form:?} is not sparse");
        let dest = Dest::new();
        let applied = apply(&dest.root(), &mut File::open(&tar).unwrap(), &ApplyOptions::default()).unwrap();
        assert_eq!(applied.entries, 7);
        for name in ["sparse-0", "sparse-1", "sparse-3", "sparse-30", "sparse-90", "dense"] {
            let (ours, theirs) = (fs::read(dest.path(name)).unwrap(), fs::read(source.path(name)).unwrap());
            assert!(ours == theirs, "{form:?} {name}");
            assert!(dest.stat(name).blocks() <= source.stat(name).blocks(), "{form:?} {name} lost its holes");
        }
        fs::remove_file(&tar).unwrap();
    }
}

#[test]
#[ignore = "needs GNU tar"]
fn every_format_of_gnu_tar() {
    let source = Dest::new();
    let long = "long".repeat(25) + "/" + &"name".repeat(25);
    fs::create_dir(source.path(&"long".repeat(25))).unwrap();
    fs::write(source.path(&long), "1").unwrap();
    fs::write(source.path("short"), "2").unwrap();
    std::os::unix::fs::symlink(&long, source.path("symlink")).unwrap();
    fs::hard_link(source.path(&long), source.path("hard")).unwrap();
    for format in ["v7", "ustar", "oldgnu", "gnu", "posix"] {
        let output = Command::new("tar")
            .args(["-c", "--format", format, "-C"])
            .arg(source.path(""))
            .arg(".")
            .output()
            .unwrap();
        // The oldest has no room for the long names: what does not fit is left out.
        assert!(output.status.success() || format == "v7" || format == "ustar", "{format}");
        let dest = Dest::new();
        apply(&dest.root(), &mut &output.stdout[..], &ApplyOptions::default()).unwrap();
        if output.status.success() {
            assert_eq!(dest.list(), source.list(), "{format}");
        } else {
            assert_eq!(dest.read("short"), "2");
        }
    }
}
