//! The archive that a layer was filled from comes back byte for byte, where the driver says so; everywhere, and of a layer that was changed, the same tree.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use graphdriver_core::{IdMaps, LayerId};
use sha2::{Digest, Sha256};

use crate::content;
use crate::process::{Holder, spawn};
use crate::store::{Store, id};
use crate::tarball::{Entry, Tarball};
use crate::tree::Times;

fn entries() -> Vec<Entry> {
    vec![
        Entry::file("z", "last by name, first in the archive"),
        Entry::dir("./dir/"),
        Entry::file("dir/b", content::bytes(7, 300_000)),
        Entry::hard_link("dir/hard", "dir/b"),
        Entry::symlink("dir/soft", "/nowhere"),
        Entry::file("dir/set-id", "x").mode(0o4711),
        Entry::file("implied/deep/c", ""),
        Entry::fifo("fifo"),
        Entry::dir("dir"),
        Entry::whiteout("gone"),
        Entry::dir("covered"),
        Entry::opaque("covered"),
        Entry::file("covered/new", "x"),
    ]
}

/// What `entries` are on.
fn below() -> Vec<u8> {
    Tarball::of([
        Entry::file("below", "x"),
        Entry::file("gone", "x"),
        Entry::dir("covered"),
        Entry::file("covered/old", "x"),
        Entry::dir("implied").mode(0o700),
    ])
}

fn archives() -> Vec<(&'static str, Vec<u8>)> {
    let mut global = pax(b'g', "comment=for all");
    global.extend(Tarball::of(entries()));
    let path = format!("{}/name", "long/".repeat(40));
    let mut long = pax(b'x', &format!("path={path}"));
    long.extend(Tarball::of([Entry::file("short", "x")]));
    let mut gnu = extension(b'L', format!("{path}\0").as_bytes());
    gnu.extend(Tarball::of([Entry::file("short", "x")]));
    let mut times = pax(b'x', "mtime=1577934245.123456789");
    times.extend(Tarball::of([Entry::file("precise", "x")]));
    let mut padding = Tarball::of([Entry::file("a", "contents"), Entry::file("b", "contents")]);
    padding[512 + 8..1024].fill(0xaa);
    let mut one_block = Tarball::of(entries());
    one_block.truncate(one_block.len() - 512);
    let mut tape = Tarball::of(entries());
    tape.resize(tape.len().next_multiple_of(10240), 0);
    let mut junk = Tarball::of(entries());
    junk.extend(b"and something after the end ".repeat(999));
    let many =
        (0..500).map(|index| Entry::file(format!("{}/{index}", 499 - index), content::bytes(index, 3000)));
    vec![
        ("plain", Tarball::of(entries())),
        ("global header", global),
        ("long name", long),
        ("long name of GNU tar", gnu),
        ("nanoseconds", times),
        ("padding that is not zero", padding),
        ("one block at the end", one_block),
        ("blocking factor", tape),
        ("junk", junk),
        ("many files", Tarball::of(many)),
        ("no entries", vec![0; 1024]),
        ("empty", Vec::new()),
    ]
}

/// An extension header of this record.
fn pax(kind: u8, record: &str) -> Vec<u8> {
    let mut length = record.len() + 2;
    while length != record.len() + 2 + length.to_string().len() {
        length = record.len() + 2 + length.to_string().len();
    }
    extension(kind, format!("{length} {record}\n").as_bytes())
}

fn extension(kind: u8, data: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_path("PaxHeader").unwrap();
    header.as_old_mut().linkflag = [kind];
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

pub fn round_trip(store: &Store) {
    let is_exact = store.graph().capabilities().exact_diffs;
    let base = store.fill("base", None, &below());
    for (index, (name, archive)) in archives().iter().enumerate() {
        for parent in [None, Some(&base)] {
            let layer = store.fill(&format!("l{index}{}", u8::from(parent.is_some())), parent, archive);
            let diff = store.diff(&layer, parent);
            assert!(!is_exact || diff == *archive, "{name}");
            assert_same_tree(store, &layer, parent, &diff);
        }
    }
}

pub fn replaced_contents(store: &Store) {
    let twice = [Entry::file("a", "one"), Entry::file("b", "b"), Entry::file("a", "another")];
    let layer = store.fill("twice", None, &Tarball::of(twice));
    let diff = store.diff(&layer, None);
    assert_same_tree(store, &layer, None, &diff);
}

type Edit = fn(&Path);

/// What can be done to a layer's root, mounted or not.
const EDITS: &[(&str, Edit)] = &[
    ("contents", |root| fs::write(root.join("z"), "other").unwrap()),
    ("contents of the same size and time", |root| {
        let mtime = root.join("z").metadata().unwrap().modified().unwrap();
        fs::write(root.join("z"), "LAST by name, first in the archive").unwrap();
        File::options().write(true).open(root.join("z")).unwrap().set_modified(mtime).unwrap();
    }),
    ("mode", |root| fs::set_permissions(root.join("z"), Permissions::from_mode(0o600)).unwrap()),
    ("mode of an implied directory", |root| {
        fs::set_permissions(root.join("implied/deep"), Permissions::from_mode(0o700)).unwrap();
    }),
    ("time", |root| {
        let later = SystemTime::now() + Duration::from_secs(1000);
        File::open(root.join("dir/b")).unwrap().set_modified(later).unwrap();
    }),
    ("deletion", |root| fs::remove_file(root.join("dir/hard")).unwrap()),
    ("deletion of an empty file", |root| fs::remove_file(root.join("implied/deep/c")).unwrap()),
    ("renamed file", |root| fs::rename(root.join("z"), root.join("y")).unwrap()),
    ("file renamed into another directory", |root| fs::rename(root.join("z"), root.join("dir/z")).unwrap()),
    ("added file", |root| fs::write(root.join("dir/new"), "").unwrap()),
    ("added name", |root| fs::hard_link(root.join("z"), root.join("implied/z")).unwrap()),
];

pub fn edited(store: &Store) {
    let base = store.fill("base", None, &below());
    let through_mount: [(&str, Edit); 2] = [
        ("deletion of what is below", |root| fs::remove_file(root.join("below")).unwrap()),
        ("deletion of a directory", |root| {
            fs::remove_file(root.join("covered/new")).unwrap();
            fs::remove_dir(root.join("covered")).unwrap();
        }),
    ];
    for (index, (name, edit)) in EDITS.iter().chain(&through_mount).enumerate() {
        let layer = store.fill(&format!("edited{index}"), Some(&base), &Tarball::of(entries()));
        store.tick();
        store.edit(&layer, edit);
        assert_changed(store, &layer, &base, name);
    }
}

/// As containers/storage and other programs do, which know where a layer's files are.
pub fn edited_in_place(store: &Store) {
    let base = store.fill("base", None, &below());
    for (index, (name, edit)) in EDITS.iter().enumerate() {
        let layer = store.fill(&format!("edited{index}"), Some(&base), &Tarball::of(entries()));
        edit(&upper(store, &layer));
        assert_changed(store, &layer, &base, name);
    }
}

pub fn edited_attribute(store: &Store) {
    let file = || Entry::file("file", "x").xattr("user.kept", b"1");
    let archive = Tarball::of([file(), Entry::file("other", "x").xattr("user.gone", b"1")]);
    let layer = store.fill("layer", None, &archive);
    let is_exact = store.graph().capabilities().exact_diffs;
    assert!(!is_exact || store.diff(&layer, None) == archive);
    store.edit(&layer, |root| {
        let status =
            Command::new("setfattr").args(["-n", "user.kept", "-v", "2"]).arg(root.join("file")).status();
        assert!(status.unwrap().success());
    });
    let diff = store.diff(&layer, None);
    assert!(diff != archive);
    assert_same_tree(store, &layer, None, &diff);
}

pub fn copied_home(store: &Store) {
    let base = store.fill("base", None, &below());
    let archive = Tarball::of(entries());
    let layer = store.fill("layer", Some(&base), &archive);
    let other = store.fill("other", Some(&base), &archive);
    fs::set_permissions(upper(store, &other).join("z"), Permissions::from_mode(0o600)).unwrap();
    let to = store.dir().join("copy");
    fs::create_dir(&to).unwrap();
    let status = Command::new("cp").arg("-a").args([store.dir().join("root"), to.join("root")]).status();
    assert!(status.unwrap().success());
    let copy = store.configuration().open(&to).unwrap();
    let diff = |layer: &LayerId| {
        let mut bytes = Vec::new();
        let mut diff = copy.diff(layer, Some(&base), &IdMaps::default()).unwrap();
        diff.read_to_end(&mut bytes).unwrap();
        bytes
    };
    // Without the kernel's marks for whiteouts a copy is not compared.
    if !store.configuration().by_fuse {
        assert!(diff(&layer) == archive);
    }
    assert_same_tree(store, &layer, Some(&base), &diff(&layer));
    assert!(diff(&other) != archive);
    assert_same_tree(store, &other, Some(&base), &diff(&other));
}

pub fn another_process(store: &Store) {
    let base = store.fill("base", None, &below());
    let archive = Tarball::of(entries());
    let layer = id("layer");
    let words: [&OsStr; 4] =
        [store.configuration().name.as_ref(), store.dir().as_ref(), "layer".as_ref(), "base".as_ref()];
    let mut child = spawn("fill", &words, Stdio::inherit());
    child.stdin.take().unwrap().write_all(&archive).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(store.diff(&layer, Some(&base)) == archive);
    let holder = Holder::start(store.configuration(), store.dir(), &layer);
    assert!(store.diff(&layer, Some(&base)) == archive, "mounted by another process");
    fs::write(holder.path().join("dir/new"), "x").unwrap();
    assert!(store.diff(&layer, Some(&base)) != archive, "written to by another process");
    holder.finish();
    assert_changed(store, &layer, &base, "another process");
}

/// Records that do not say what the layer is, and records that would do harm: the diff is that of the layer, or there is none.
pub fn damaged_record(store: &Store) {
    let archive = Tarball::of(entries());
    let layer = store.fill("layer", None, &archive);
    let record = store.home().join("layer/tar-split.gz");
    let whole = fs::read(&record).unwrap();
    let middle = whole.len() / 2;
    let mut flipped = whole.clone();
    flipped[middle] ^= 0x10;
    let mut checksum = whole.clone();
    checksum[whole.len() - 8] ^= 1;
    let mut digest = whole.clone();
    digest[30] ^= 1;
    for (name, damaged) in [
        ("empty", &b""[..]),
        ("no gzip", b"{}"),
        ("cut in the note", &whole[..40]),
        ("cut in the middle", &whole[..middle]),
        ("cut at the end", &whole[..whole.len() - 1]),
        ("a flipped bit", &flipped),
        ("another checksum", &checksum),
        ("another digest", &digest),
    ] {
        fs::write(&record, damaged).unwrap();
        assert_honest(store, &layer, name);
    }
}

/// As containers/storage writes it, which says of which archive the record is.
pub fn foreign_record(store: &Store) {
    let archive = Tarball::of([Entry::file("file", "contents")]);
    let layer = store.fill("layer", None, &archive);
    fs::remove_file(store.home().join("layer/tar-split.gz")).unwrap();
    let go = store.home().with_file_name("overlay-layers");
    fs::create_dir(&go).unwrap();
    let digest = Sha256::digest(&archive);
    let list =
        format!(r#"[{{"id":"layer","diff-digest":"sha256:{digest:x}","diff-size":{}}}]"#, archive.len());
    fs::write(go.join("layers.json"), list).unwrap();
    let segment = |bytes: &[u8], position| {
        format!("{{\"type\":2,\"payload\":\"{}\",\"position\":{position}}}\n", STANDARD.encode(bytes))
    };
    let file = |name: &str, crc: &[u8], position| {
        format!(
            "{{\"type\":1,\"name\":\"{name}\",\"size\":8,\"payload\":\"{}\",\"position\":{position}}}\n",
            STANDARD.encode(crc)
        )
    };
    let (header, rest) = (segment(&archive[..512], 0), segment(&archive[520..], 2));
    let crc = [0x4b, 0x99, 0x2c, 0x11, 0, 0, 0, 0];
    let long = format!("{{\"type\":2,\"payload\":\"{}", "A".repeat(17 << 20));
    for (name, text) in [
        ("outside", format!("{header}{}{rest}", file("../../../../../../../../etc/passwd", &crc, 1))),
        ("through a link", format!("{header}{}{rest}", file("/proc/self/root/etc/passwd", &crc, 1))),
        ("wrong checksum", format!("{header}{}{rest}", file("file", &crc, 1))),
        ("no such file", format!("{header}{}{rest}", file("nonesuch", &crc, 1))),
        ("other bytes", segment(&vec![7; archive.len()], 0)),
        ("too short", segment(&archive[..512], 0)),
        ("order", format!("{rest}{header}")),
        ("endless line", long),
        ("many lines", (0..20_000).map(|index| file(&format!("f{index}"), &crc, index)).collect()),
        ("no lines", String::new()),
    ] {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        fs::write(go.join("layer.tar-split.gz"), gzip.finish().unwrap()).unwrap();
        assert_honest(store, &layer, name);
    }
}

/// The diff is the layer's, or an error that names the layer.
#[track_caller]
fn assert_honest(store: &Store, layer: &LayerId, name: &str) {
    let mut diff = Vec::new();
    let read = store.graph().diff(layer, None, &IdMaps::default()).and_then(|mut stream| {
        stream.read_to_end(&mut diff).map_err(|error| error.downcast::<graphdriver_core::Error>().unwrap())
    });
    match read {
        Ok(_) => assert_same_tree_as(store, name, layer, None, &diff),
        Err(error) => assert_eq!(error.failed_layer(), Some(layer), "{name}: {}", error.report()),
    }
}

#[track_caller]
fn assert_changed(store: &Store, layer: &LayerId, base: &LayerId, name: &str) {
    let diff = store.diff(layer, Some(base));
    assert!(diff != Tarball::of(entries()), "{name}");
    assert_same_tree_as(store, name, layer, Some(base), &diff);
}

fn upper(store: &Store, layer: &LayerId) -> PathBuf {
    store.home().join(layer.as_str()).join("diff")
}

/// What `diff` makes is what `layer` is.
#[track_caller]
fn assert_same_tree(store: &Store, layer: &LayerId, parent: Option<&LayerId>, diff: &[u8]) {
    assert_same_tree_as(store, "", layer, parent, diff);
}

#[track_caller]
fn assert_same_tree_as(store: &Store, name: &str, layer: &LayerId, parent: Option<&LayerId>, diff: &[u8]) {
    let again = store.fill(&format!("{layer}-{}-again", name.replace(' ', "-")), parent, diff);
    let [mut made, mut tree] = [&again, layer].map(|layer| store.tree(layer, Times::Seconds));
    // Directories that an archive only implies have the time at which they were made.
    for implied in implied(diff) {
        made.forget_time(&implied);
        tree.forget_time(&implied);
    }
    if let Some(differences) = made.differences(&tree) {
        panic!("{layer}, {name}: {differences}");
    }
}

/// The directories without an entry.
fn implied(archive: &[u8]) -> BTreeSet<PathBuf> {
    let mut archive = tar::Archive::new(archive);
    let paths = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned());
    let paths: BTreeSet<PathBuf> = paths.map(|path| path.components().collect()).collect();
    let above = paths.iter().flat_map(|path| path.ancestors().skip(1)).map(Path::to_owned);
    above.filter(|path| !paths.contains(path)).collect()
}
