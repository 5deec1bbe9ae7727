//! Archives recorded while they are unpacked, and made again.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::Path;
use std::process::Command;

use nix::unistd::{getegid, geteuid};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use tar::Header;
use tempfile::TempDir;

use super::*;
use crate::apply::{ApplyOptions, WhiteoutMode, apply, apply_recorded};
use crate::error::{Error, ErrorKind, Result};
use crate::tar::pax::push_record;
use crate::whiteout::OverlayXattrs;

const RECORD: &str = "tar-split.gz";
const MTIME: u64 = 1_577_934_245;
const OVERLAY: WhiteoutMode = WhiteoutMode::Overlay(OverlayXattrs::User);

/// A layer, with the record of the archive that it was filled from.
struct Layer {
    temp_dir: TempDir,
    archive: Vec<u8>,
    whiteouts: WhiteoutMode,
    recorded: Recorded,
}

impl Layer {
    fn new(archive: Vec<u8>) -> Self {
        Self::with(OVERLAY, archive)
    }

    fn with(whiteouts: WhiteoutMode, archive: Vec<u8>) -> Self {
        let temp_dir = tempfile::tempdir().unwrap();
        let diff = temp_dir.path().join("diff");
        fs::create_dir(&diff).unwrap();
        let aside = temp_dir.path().join("aside");
        let file = File::options().read(true).write(true).create_new(true).open(&aside).unwrap();
        let root = RootDir::open(&diff).unwrap();
        let options = ApplyOptions { whiteouts, ..ApplyOptions::default() };
        let (applied, recorded) = apply_recorded(&root, &mut &archive[..], &options, file).unwrap();
        let digest = ArchiveDigest { sha256: Sha256::digest(&archive).into(), bytes: archive.len() as u64 };
        assert_eq!(applied.archive, Some(digest));
        if recorded == Recorded::Exact {
            seal(&File::options().read(true).write(true).open(&aside).unwrap(), &root).unwrap();
        }
        fs::rename(aside, temp_dir.path().join(RECORD)).unwrap();
        Self { temp_dir, archive, whiteouts, recorded }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.temp_dir.path().join("diff").join(path)
    }

    fn record(&self) -> Record {
        Record::open(File::open(self.temp_dir.path().join(RECORD)).unwrap()).unwrap()
    }

    fn root(&self) -> RootDir {
        RootDir::open(self.path("")).unwrap()
    }

    fn matches(&self) -> bool {
        let id_maps = IdMaps::default();
        let whiteouts = self.whiteouts;
        let look = LayerLook { lowers: &[], whiteouts, id_maps: &id_maps, in_user_namespace: false };
        self.record().matches(&self.root(), &look).unwrap()
    }

    /// What `cp -a` makes of the store: all times of change are new, that of the record is the latest, and the time of its last writing is the old one.
    fn copied(&self) -> Self {
        let temp_dir = tempfile::tempdir().unwrap();
        for name in ["diff", RECORD] {
            let from = self.temp_dir.path().join(name);
            let status = Command::new("cp").arg("-a").arg(from).arg(temp_dir.path()).status();
            assert!(status.unwrap().success());
        }
        let (archive, recorded) = (self.archive.clone(), self.recorded.clone());
        Self { temp_dir, archive, whiteouts: self.whiteouts, recorded }
    }

    /// What `cp -r` makes of the record: its time of last writing is new, too.
    fn written_anew(&self) {
        let record = self.temp_dir.path().join(RECORD);
        let contents = fs::read(&record).unwrap();
        fs::remove_file(&record).unwrap();
        fs::write(&record, contents).unwrap();
    }

    /// Makes everything suspect, by changes that change nothing.
    fn touch(&self) {
        touch(&self.path(""));
    }

    fn assembled(&self) -> std::io::Result<Vec<u8>> {
        let record = self.record();
        let archive = record.archive().expect("a note");
        let mut assembled = Vec::new();
        record.assemble(&self.root(), archive).unwrap().read_to_end(&mut assembled)?;
        Ok(assembled)
    }

    /// The archive comes back, also when nothing is known by its time.
    fn assert_exact(&self) {
        assert_eq!(self.recorded, Recorded::Exact);
        assert!(self.matches());
        assert_eq!(self.record().assembled_bytes().unwrap(), self.archive.len() as u64);
        assert!(self.assembled().unwrap() == self.archive, "other bytes");
        self.touch();
        assert!(self.matches(), "not recognized");
    }
}

fn touch(path: &Path) {
    let metadata = path.symlink_metadata().unwrap();
    if metadata.is_symlink() {
        lchown(path, Some(metadata.uid()), Some(metadata.gid())).unwrap();
    } else {
        fs::set_permissions(path, metadata.permissions()).unwrap();
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            touch(&entry.unwrap().path());
        }
    }
}

/// An archive, entry by entry.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn header(mut self, kind: u8, name: &[u8], size: usize, change: impl FnOnce(&mut Header)) -> Self {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkflag = [kind];
        header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
        header.set_uid(geteuid().as_raw().into());
        header.set_gid(getegid().as_raw().into());
        header.set_mtime(MTIME);
        header.set_size(size as u64);
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self
    }

    fn data(mut self, data: &[u8]) -> Self {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, data: &[u8]) -> Self {
        self.header(b'0', name.as_bytes(), data.len(), |_| {}).data(data)
    }

    fn dir(self, name: &str) -> Self {
        self.header(b'5', name.as_bytes(), 0, |_| {})
    }

    fn link(self, kind: u8, name: &str, target: &str) -> Self {
        self.header(kind, name.as_bytes(), 0, |header| header.set_link_name(target).unwrap())
    }

    fn pax(self, kind: u8, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            push_record(&mut data, key.as_bytes(), value);
        }
        self.header(kind, b"PaxHeaders/x", data.len(), |_| {}).data(&data)
    }

    fn end(self, zeros: usize) -> Vec<u8> {
        let Self(mut bytes) = self;
        bytes.resize(bytes.len() + zeros, 0);
        bytes
    }
}

fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| u8::try_from(index * index / 7 % 251).unwrap()).collect()
}

#[test]
fn archives_come_back_byte_for_byte() {
    let long = format!("{}/name", "long".repeat(60));
    let table: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("end only", Tar::default().end(1024)),
        ("one zero block", Tar::default().file("a", b"x").end(512)),
        ("tape blocks", Tar::default().dir("d/").file("d/a", &content(1000)).end(10240)),
        (
            "junk after the end",
            Tar::default().file("a", b"x").end(1024).into_iter().chain(content(5000)).collect(),
        ),
        ("odd length", Tar::default().file("a", b"x").end(1024 + 3)),
        ("implied directories", Tar::default().file("a/b/c", b"x").file("./a/b/d", b"").end(1024)),
        (
            "several buffers",
            Tar::default().file("a", &content(3 << 20)).file("b", &content(999_999)).end(1024),
        ),
        (
            "links",
            Tar::default().file("a", b"x").link(b'1', "b", "a").link(b'2', "c", "../outside").end(1024),
        ),
        (
            "a hard link with a size",
            Tar::default()
                .file("a", b"x")
                .header(b'1', b"b", 77, |header| header.set_link_name("a").unwrap())
                .end(1024),
        ),
        (
            "PAX and GNU names",
            Tar::default()
                .pax(
                    b'x',
                    &[
                        ("path", long.as_bytes()),
                        ("mtime", b"1577934245.123456789"),
                        ("comment", &[0xff; 700]),
                    ],
                )
                .file("short", &content(600))
                .header(b'L', b"././@LongLink", 4, |_| {})
                .data(b"gnu\0")
                .header(b'0', b"cut", 1, |_| {})
                .data(b"1")
                .header(b'0', b"\xff\xfe<&>", 2, |_| {})
                .data(b"22")
                .end(1024),
        ),
        (
            "global headers",
            Tar::default()
                .pax(b'g', &[("comment", b"one")])
                .dir("d")
                .pax(b'g', &[("comment", &content(900))])
                .file("d/a", b"x")
                .end(1024),
        ),
        (
            "names without contents that come again",
            Tar::default().dir("d").dir("./d/").link(b'2', "e", "d").file("e", b"content").end(1024),
        ),
        (
            "whiteouts",
            Tar::default()
                .file("d/.wh..wh..opq", b"")
                .file("d/.wh.gone", b"")
                .file(".wh.top", b"")
                .file("d/a", b"x")
                .end(1024),
        ),
        ("a fifo", Tar::default().header(b'6', b"p", 0, |_| {}).end(1024)),
        (
            "attributes",
            Tar::default()
                .pax(b'x', &[("SCHILY.xattr.user.a", b"\n\0"), ("SCHILY.xattr.user.b", b"")])
                .file("a", b"x")
                .end(1024),
        ),
    ];
    for (name, archive) in table {
        println!("{name}");
        for whiteouts in [OVERLAY, WhiteoutMode::Fuse, WhiteoutMode::Aufs] {
            Layer::with(whiteouts, archive.clone()).assert_exact();
        }
    }
}

#[test]
fn archives_that_take_back_contents_are_told() {
    let replaced = |path: &str| Recorded::NotExact(NotExact::Replaced(path.into()));
    for (archive, expected) in [
        (Tar::default().file("a", b"1").file("a", b"2"), replaced("a")),
        (Tar::default().file("a", b"1").file("./a", b""), replaced("./a")),
        // Whether an empty file had contents that are still to be written is not known.
        (Tar::default().file("a", b"").file("a", b""), replaced("a")),
        (Tar::default().file("a", b"1").file(".wh.a", b""), replaced("a")),
        (Tar::default().file("d/a", b"1").file("d", b""), replaced("d")),
        (Tar::default().file("d/a", b"1").link(b'2', "l", "d").file("l/a", b"2"), replaced("l/a")),
        (Tar::default().file(".wh.b", b"contents"), replaced(".wh.b")),
        (Tar::default().file(".wh..wh.aufs", b"contents"), replaced(".wh..wh.aufs")),
    ] {
        let layer = Layer::new(archive.end(1024));
        assert_eq!(layer.recorded, expected);
    }
    let trailer = Tar::default().file("a", b"x").end((64 << 20) + 2048);
    assert_eq!(Layer::new(trailer).recorded, Recorded::NotExact(NotExact::LongTrailer));
}

fn sparse(tar: Tar, name: &str, data: &[u8]) -> Tar {
    let header = tar.header(b'S', name.as_bytes(), data.len(), |header| {
        header.as_old_mut().pad.fill(0);
        let bytes = header.as_mut_bytes();
        bytes[257..265].copy_from_slice(b"ustar  \0");
        // One part, behind a hole of 64 KiB.
        bytes[386..398].copy_from_slice(b"00000200000\0");
        bytes[398..410].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
        bytes[483..495].copy_from_slice(format!("{:011o}\0", (64 << 10) + data.len()).as_bytes());
    });
    header.data(data)
}

/// What the format cannot point to is kept as it is. Only a layer that is known by its times is recognized.
#[test]
fn data_of_sparse_files_is_kept() {
    let mut tar = Tar::default().file("a", &content(700));
    for (name, bytes) in [("s", 1000), ("t", 5 << 20), ("empty", 0), ("u", 512)] {
        tar = sparse(tar, name, &content(bytes));
    }
    let layer = Layer::new(tar.dir("d").file("d/b", b"x").end(1024));
    assert_eq!(layer.recorded, Recorded::Exact);
    assert!(layer.matches());
    assert!(layer.assembled().unwrap() == layer.archive);
    assert_eq!(layer.record().assembled_bytes().unwrap(), layer.archive.len() as u64);
    touch(&layer.path("d"));
    assert!(layer.matches(), "what follows is found in the record");
    touch(&layer.path("s"));
    assert!(!layer.matches());
    let large = sparse(Tar::default(), "large", &content((64 << 20) + 1));
    assert_eq!(Layer::new(large.end(1024)).recorded, Recorded::NotExact(NotExact::Sparse("large".into())));
    let twice = sparse(Tar::default().file("a", b"x"), "a", b"y");
    assert_eq!(Layer::new(twice.end(1024)).recorded, Recorded::NotExact(NotExact::Replaced("a".into())));
}

/// What a record looks like to Go's reader, which decodes JSON values and refuses names that it has seen.
#[test]
fn lines_of_a_small_archive() {
    let layer = Layer::new(Tar::default().dir("d/").file("d/a", b"123456789").end(1024));
    let mut text = String::new();
    let file = File::open(layer.temp_dir.path().join(RECORD)).unwrap();
    flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = lines.iter().map(|line| line["type"].as_u64().unwrap()).collect();
    assert_eq!(kinds, [2, 1, 2, 1, 2]);
    assert_eq!((&lines[1]["name"], &lines[1]["payload"]), (&"d/".into(), &serde_json::Value::Null));
    // The check value of CRC-64/GO-ISO.
    assert_eq!((&lines[3]["size"], &lines[3]["payload"]), (&9.into(), &"uQlWx3WkEAE=".into()));
}

fn edited(whiteouts: WhiteoutMode) -> Layer {
    let archive = Tar::default()
        .dir("d/")
        .file("d/a", &content(1000))
        .file("d/.wh.gone", b"")
        .pax(b'x', &[("SCHILY.xattr.user.a", b"1")])
        .file("e", b"e")
        .link(b'2', "l", "d/a")
        .file("implied/x", b"")
        .dir("opaque/")
        .file("opaque/.wh..wh..opq", b"")
        .end(1024);
    Layer::with(whiteouts, archive)
}

#[test]
fn changes_of_a_layer_are_noticed() {
    type Edit = fn(&Layer);
    let edits: [(&str, Edit); 15] = [
        ("contents, with the time put back", |layer| {
            let mtime = layer.path("d/a").metadata().unwrap().modified().unwrap();
            let mut file = File::options().write(true).open(layer.path("d/a")).unwrap();
            file.write_all(b"other").unwrap();
            file.set_modified(mtime).unwrap();
        }),
        ("mode", |layer| fs::set_permissions(layer.path("e"), Permissions::from_mode(0o600)).unwrap()),
        ("mode of an implied directory", |layer| {
            fs::set_permissions(layer.path("implied"), Permissions::from_mode(0o700)).unwrap();
        }),
        ("time", |layer| {
            let later = std::time::SystemTime::now();
            File::open(layer.path("e")).unwrap().set_modified(later).unwrap();
        }),
        ("time of an implied directory", |layer| {
            let later = std::time::SystemTime::now() + std::time::Duration::from_secs(1);
            File::open(layer.path("implied")).unwrap().set_modified(later).unwrap();
        }),
        ("attribute added", |layer| set_xattr(layer, "e", "user.b", "1")),
        ("attribute changed", |layer| set_xattr(layer, "e", "user.a", "2")),
        ("file added", |layer| fs::write(layer.path("d/new"), "").unwrap()),
        ("file removed", |layer| fs::remove_file(layer.path("e")).unwrap()),
        ("empty file removed", |layer| fs::remove_file(layer.path("implied/x")).unwrap()),
        ("whiteout removed", |layer| fs::remove_file(layer.path("d/gone")).unwrap()),
        ("hard link added", |layer| fs::hard_link(layer.path("e"), layer.path("f")).unwrap()),
        ("symbolic link changed", |layer| {
            fs::remove_file(layer.path("l")).unwrap();
            symlink("elsewhere", layer.path("l")).unwrap();
        }),
        ("opaque mark removed", |layer| {
            let status = Command::new("setfattr")
                .args(["-x", "user.overlay.opaque"])
                .arg(layer.path("opaque"))
                .status();
            assert!(status.unwrap().success());
        }),
        ("opaque mark added", |layer| set_xattr(layer, "d", "user.overlay.opaque", "y")),
    ];
    edited(OVERLAY).assert_exact();
    for (name, edit) in edits {
        let layer = edited(OVERLAY);
        assert!(layer.matches());
        edit(&layer);
        assert!(!layer.matches(), "{name}");
        layer.touch();
        assert!(!layer.matches(), "{name}, everything suspect");
        touch(&layer.temp_dir.path().join(RECORD));
        assert!(!layer.matches(), "{name}, the record changed last");
        // Of directories without an entry the archive does not know when they were last changed.
        if name != "time of an implied directory" {
            assert!(!layer.copied().matches(), "{name}, copied");
            layer.written_anew();
            assert!(!layer.matches(), "{name}, the record written last");
        }
    }
}

#[test]
fn changes_of_marks_that_are_files_are_noticed() {
    type Edit = fn(&Layer);
    let edits: [(&str, Edit); 5] = [
        ("whiteout removed", |layer| fs::remove_file(layer.path("d/.wh.gone")).unwrap()),
        ("whiteout added", |layer| fs::write(layer.path("d/.wh.other"), "").unwrap()),
        ("whiteout taken back", |layer| {
            fs::rename(layer.path("d/.wh.gone"), layer.path("d/gone")).unwrap();
        }),
        ("opaque mark removed", |layer| fs::remove_file(layer.path("opaque/.wh..wh..opq")).unwrap()),
        ("opaque mark added", |layer| fs::write(layer.path("d/.wh..wh..opq"), "").unwrap()),
    ];
    for whiteouts in [WhiteoutMode::Fuse, WhiteoutMode::Aufs] {
        for (name, edit) in edits {
            let layer = edited(whiteouts);
            assert!(layer.matches());
            edit(&layer);
            assert!(!layer.matches(), "{name}, {whiteouts:?}");
            layer.touch();
            assert!(!layer.matches(), "{name}, {whiteouts:?}, everything suspect");
        }
    }
    // The other form of the same mark.
    let layer = edited(WhiteoutMode::Fuse);
    fs::remove_file(layer.path("opaque/.wh..wh..opq")).unwrap();
    set_xattr(&layer, "opaque", "user.fuseoverlayfs.opaque", "y");
    assert!(!layer.matches(), "the time of the directory is another");
    let mtime = std::time::UNIX_EPOCH + std::time::Duration::from_secs(MTIME);
    File::open(layer.path("opaque")).unwrap().set_modified(mtime).unwrap();
    assert!(layer.matches());
}

/// Their parent lists the same names, and what is in them was not changed.
#[test]
fn exchanged_directories_are_noticed() {
    let archive = |first: &str, second: &str| {
        Tar::default()
            .dir("a/")
            .dir("a/d/")
            .file("a/d/x", b"1")
            .header(b'0', first.as_bytes(), 1, |it| it.set_mode(0o600))
            .data(b"1")
            .dir("b/")
            .dir("b/d/")
            .file("b/d/x", b"2")
            .file(second, b"1")
            .end(1024)
    };
    for (one, other) in [("a", "b"), ("a/d", "b/d"), ("a/d/x", "b/d/x"), ("a/y", "b/y")] {
        let layer = Layer::new(archive("a/y", "b/y"));
        for (from, to) in [(one, "aside"), (other, one), ("aside", other)] {
            fs::rename(layer.path(from), layer.path(to)).unwrap();
        }
        let mtime = std::time::UNIX_EPOCH + std::time::Duration::from_secs(MTIME);
        for dir in ["a", "b", "a/d", "b/d"] {
            File::open(layer.path(dir)).unwrap().set_modified(mtime).unwrap();
        }
        assert!(!layer.matches(), "{one}, {other}");
    }
    // The whole layer in the place of another.
    let (one, other) = (Layer::new(archive("a/y", "b/y")), Layer::new(archive("b/y", "a/y")));
    fs::rename(one.path(""), one.temp_dir.path().join("own")).unwrap();
    fs::rename(other.path(""), one.path("")).unwrap();
    assert!(!one.matches());
}

/// As one that Go's programs have written: the note is cut out.
#[test]
fn records_without_a_note_know_the_layer_by_the_time_of_their_writing() {
    let layer = edited(OVERLAY);
    let record = layer.temp_dir.path().join(RECORD);
    let mut text = Vec::new();
    flate2::read::MultiGzDecoder::new(File::open(&record).unwrap()).read_to_end(&mut text).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&text).unwrap();
    fs::write(&record, gzip.finish().unwrap()).unwrap();
    assert_eq!(layer.record().archive(), None);
    assert!(layer.matches());
    assert!(layer.copied().matches());
    // Sealing it again: as if it came from a differ.
    let digest =
        ArchiveDigest { sha256: Sha256::digest(&layer.archive).into(), bytes: layer.archive.len() as u64 };
    for from in [text.as_slice(), &fs::read(&record).unwrap()] {
        let (mut raw, sealed) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        raw.write_all(from).unwrap();
        annotate(&raw, digest, &IdMaps::default(), &sealed).unwrap();
        seal(&sealed, &layer.root()).unwrap();
        let annotated = Record::open(sealed).unwrap();
        assert_eq!(annotated.archive(), Some(digest));
        assert_eq!(annotated.was_applied_with(&IdMaps::default()), Some(true));
        let mut assembled = Vec::new();
        annotated.assemble(&layer.root(), digest).unwrap().read_to_end(&mut assembled).unwrap();
        assert!(assembled == layer.archive);
    }
    fs::set_permissions(layer.path("e"), Permissions::from_mode(0o600)).unwrap();
    touch(&record);
    assert!(!layer.matches());
    assert!(!layer.copied().matches());
}

fn set_xattr(layer: &Layer, path: &str, name: &str, value: &str) {
    let status = Command::new("setfattr").args(["-n", name, "-v", value]).arg(layer.path(path)).status();
    assert!(status.unwrap().success());
}

/// All times of a copy are new, the record's among them and neither first nor last.
#[test]
fn a_copy_of_the_store_is_recognized() {
    let layer = edited(OVERLAY);
    let copy = tempfile::tempdir().unwrap();
    let to = copy.path().join("store");
    let status = Command::new("cp").arg("-a").args([layer.temp_dir.path(), &to]).status();
    assert!(status.unwrap().success());
    let Layer { archive, recorded, .. } = layer;
    // Kept until the end, as `copy` removes the directory.
    let temp_dir = tempfile::tempdir_in(copy.path()).unwrap();
    fs::rename(to.join("diff"), temp_dir.path().join("diff")).unwrap();
    fs::rename(to.join(RECORD), temp_dir.path().join(RECORD)).unwrap();
    Layer { temp_dir, archive, whiteouts: OVERLAY, recorded }.assert_exact();
}

#[test]
fn what_changes_while_it_is_read_is_never_passed_off_as_the_archive() {
    for new in [&b"other content"[..], b"short", b"", b"longer than it was"] {
        let layer = Layer::new(Tar::default().file("a", b"first content").end(1024));
        fs::write(layer.path("a"), new).unwrap();
        let error = layer.assembled().unwrap_err();
        assert_eq!(ErrorKind::of_io(&error), ErrorKind::Io, "{error}");
        assert!(error.to_string().contains("\"a\""), "{error}");
    }
    let layer = Layer::new(Tar::default().file("a", b"x").end(1024));
    let other = ArchiveDigest { sha256: [0; 32], bytes: layer.archive.len() as u64 };
    let mut assembly = layer.record().assemble(&layer.root(), other).unwrap();
    let error = assembly.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(ErrorKind::of_io(&error), ErrorKind::InvalidArchive, "{error}");
    assert!(assembly.read(&mut [0; 10]).is_err(), "and goes on failing");
}

fn assemble(lines: &str) -> Result<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "contents").unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(lines.as_bytes()).unwrap();
    let path = dir.path().join(RECORD);
    fs::write(&path, gzip.finish().unwrap()).unwrap();
    let record = Record::open(File::open(path).unwrap())?;
    assert_eq!(record.archive(), None);
    let mut bytes = Vec::new();
    let any = ArchiveDigest { sha256: [0; 32], bytes: 0 };
    let root = RootDir::open(dir.path().join(".")).unwrap();
    let read = record.assemble(&root, any)?.read_to_end(&mut bytes);
    read.map_err(|error| error.downcast::<Error>().unwrap())?;
    Ok(bytes)
}

#[test]
fn hostile_records_are_refused() {
    let long = format!(r#"{{"type":2,"payload":"{}","position":0}}"#, "A".repeat(17 << 20));
    for (lines, expected) in [
        ("[]", "line 0: invalid"),
        (long.as_str(), "line 0 is longer than 16777216 bytes"),
        (r#"{"type":2,"payload":"AAAA","position":1}"#, "position 1 where 0 is due"),
        (
            r#"{"type":1,"name":"../../etc/passwd","size":9,"payload":"AAAAAAAAAAE=","position":0}"#,
            "leaves the root",
        ),
        (r#"{"type":1,"name":"/","size":9,"payload":"AAAAAAAAAAE=","position":0}"#, "the root has contents"),
        (r#"{"type":1,"name":"file","size":9,"payload":"AAAAAAAAAAE=","position":0}"#, "not the one"),
        (r#"{"type":1,"name":"file","size":8,"payload":"AAAAAAAAAAE=","position":0}"#, "not the one"),
        (r#"{"type":1,"name":"tar-split.gz/x","size":8,"payload":"AAAAAAAAAAE=","position":0}"#, "openat2"),
        (r#"{"type":2,"payload":"AAAA","position":0}"#, "its digest or size is another"),
    ] {
        let error = assemble(lines).unwrap_err();
        assert!(error.to_string().contains(expected), "{error} {:?}", &lines[..lines.len().min(80)]);
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    for contents in [&b""[..], b"{}", b"\x1f\x8b\x08\0"] {
        fs::write(file.path(), contents).unwrap();
        let opened = Record::open(File::open(file.path()).unwrap());
        let result = opened.and_then(|record| record.assembled_bytes());
        assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidArchive, "{contents:?}");
    }
}

#[test]
fn a_digest_alone_costs_no_record() {
    let archive = Tar::default().file("a", &content(1 << 20)).file("a", b"again").end(1024);
    let dir = tempfile::tempdir().unwrap();
    let options = ApplyOptions { digest: true, ..ApplyOptions::default() };
    let applied = apply(&RootDir::open(dir.path()).unwrap(), &mut &archive[..], &options).unwrap();
    let digest = ArchiveDigest { sha256: Sha256::digest(&archive).into(), bytes: archive.len() as u64 };
    assert_eq!(applied.archive, Some(digest));
}

#[test]
fn maps_are_noted() {
    let layer = Layer::new(Tar::default().end(1024));
    let map = vec![crate::IdMap { container_id: 0, host_id: 1000, size: 10 }];
    let maps = IdMaps::new(map.clone(), map).unwrap();
    assert_eq!(layer.record().was_applied_with(&IdMaps::default()), Some(true));
    assert_eq!(layer.record().was_applied_with(&maps), Some(false));
}

#[derive(Clone, Debug)]
enum Made {
    Dir(u8),
    File(u8, u32),
    Link(u8, u8),
    Symlink(u8),
    Pax(Vec<u8>),
    Global,
}

fn made() -> impl Strategy<Value = Made> {
    prop_oneof![
        any::<u8>().prop_map(Made::Dir),
        (any::<u8>(), prop_oneof![Just(0), 0..2000_u32, 500_000..600_000_u32])
            .prop_map(|(name, bytes)| Made::File(name, bytes)),
        (any::<u8>(), any::<u8>()).prop_map(|(name, target)| Made::Link(name, target)),
        any::<u8>().prop_map(Made::Symlink),
        prop::collection::vec(1..255_u8, 1..600).prop_map(Made::Pax),
        Just(Made::Global),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_archive_comes_back_or_is_told(
        entries in prop::collection::vec(made(), 0..40),
        zeros in prop_oneof![Just(512_usize), Just(1024), 1024..12_000_usize],
    ) {
        let mut tar = Tar::default();
        let (mut files, mut names) = (Vec::new(), Vec::new());
        for entry in &entries {
            tar = match entry {
                Made::Dir(name) => tar.dir(&format!("d{}/", name % 8)),
                Made::File(name, bytes) => {
                    let name = format!("d{}/f{name}", name % 8);
                    files.push(name.clone());
                    names.push(name.clone());
                    tar.file(&name, &content(*bytes as usize))
                }
                Made::Link(name, target) if !files.is_empty() => {
                    let target = &files[usize::from(*target) % files.len()];
                    names.push(format!("h{name}"));
                    tar.link(b'1', &format!("h{name}"), target)
                }
                Made::Symlink(name) => tar.link(b'2', &format!("s{name}"), "d1/f1"),
                Made::Pax(value) => tar.pax(b'x', &[("comment", value)]).dir("d0"),
                Made::Global | Made::Link(..) => tar.pax(b'g', &[("comment", b"x")]),
            };
        }
        let layer = Layer::new(tar.end(zeros));
        if layer.recorded == Recorded::Exact {
            prop_assert!(layer.matches());
            prop_assert!(layer.assembled().unwrap() == layer.archive);
            layer.touch();
            prop_assert!(layer.matches());
        } else {
            let unique: std::collections::HashSet<_> = names.iter().collect();
            prop_assert!(unique.len() < names.len(), "{:?}", layer.recorded);
        }
    }
}
