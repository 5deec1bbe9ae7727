//! Layers from tars and back.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::Command;

use serde_json::Value;

use crate::store::{Entry, PROGRAM, Store, names, tar};

fn base() -> Vec<u8> {
    tar(&[
        Entry::Dir("etc"),
        Entry::File("etc/motd", "hello\n"),
        Entry::File("etc/gone", "x"),
        Entry::Link("link", "etc"),
    ])
}

fn child() -> Vec<u8> {
    tar(&[
        Entry::Dir("etc"),
        Entry::File("etc/.wh.gone", ""),
        Entry::File("etc/motd", "bye\n"),
        Entry::File("new", "n"),
    ])
}

fn store() -> Store {
    let store = Store::new();
    assert!(store.apply("base", None, &base()).status.success());
    assert!(store.apply("child", Some("base"), &child()).status.success());
    store
}

#[test]
fn apply_tells_size_and_digest() {
    let store = Store::new();
    let tar = base();
    let gzip = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, &tar).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = zstd::encode_all(&tar[..], 1).unwrap();
    for (id, archive) in [("plain", &tar), ("gzip", &gzip), ("zstd", &zstd)] {
        let output = store.apply(id, None, archive);
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["id"], id);
        assert_eq!(json["diff_id"], crate::image::digest(&tar), "{id}: of the uncompressed tar");
        assert_eq!((json["size"].as_u64(), json["entries"].as_u64()), (Some(7), Some(4)), "{id}");
        assert_eq!(store.read(id, "etc/motd").as_deref(), Some("hello\n"), "{id}");
    }
}

#[test]
fn a_tar_by_name_and_by_dash() {
    let store = Store::new();
    let path = store.path("base.tar");
    fs::write(&path, base()).unwrap();
    store.ok(&["apply", "named", path.to_str().unwrap()]);
    store.command(&["apply", "dash", "-"]).stdin(fs::File::open(&path).unwrap()).output().unwrap();
    assert_eq!(store.list(), ["dash", "named"]);
}

#[test]
fn changes_and_diff_against_the_parent_and_others() {
    let store = store();
    assert_eq!(store.ok(&["changes", "child"]), "C /etc\nD /etc/gone\nC /etc/motd\nA /new\n");
    assert_eq!(store.ok(&["diffsize", "child"]), "5\n");
    assert_eq!(store.ok(&["changes", "child", "--parent", "child"]), "");
    let json: Value = serde_json::from_str(&store.ok(&["--json", "changes", "child"])).unwrap();
    assert_eq!(json[1], serde_json::json!({"kind": "D", "path": "/etc/gone"}));
    let whole = store.ok(&["changes", "base"]);
    assert_eq!(whole, "A /etc\nA /etc/gone\nA /etc/motd\nA /link\n");
}

#[test]
fn a_diff_makes_the_same_layer_elsewhere() {
    let store = store();
    let other = Store::new();
    for (id, parent) in [("base", None), ("child", Some("base"))] {
        let diff = store.run(&["diff", id]).stdout;
        assert!(other.apply(id, parent, &diff).status.success());
        assert_eq!(other.run(&["diff", id]).stdout, diff, "{id}");
    }
    assert_eq!(other.ok(&["changes", "child"]), store.ok(&["changes", "child"]));
    assert_eq!(other.read("child", "etc/motd").as_deref(), Some("bye\n"));
    assert_eq!(other.read("child", "etc/gone"), None);
}

#[test]
fn a_diff_goes_to_a_file_whole_or_not_at_all() {
    let store = store();
    let diff = store.run(&["diff", "child"]).stdout;
    fs::create_dir(store.path("out")).unwrap();
    let path = store.path("out/child.tar");
    for _ in 0..2 {
        store.ok(&["diff", "child", "-o", path.to_str().unwrap()]);
        assert_eq!(fs::read(&path).unwrap(), diff);
    }
    // A link is written through, not replaced.
    let link = store.path("out/link");
    symlink("child.tar", &link).unwrap();
    store.ok(&["diff", "base", "-o", link.to_str().unwrap()]);
    assert!(link.is_symlink());
    assert_eq!(fs::read(&path).unwrap(), store.run(&["diff", "base"]).stdout);
    store.fails(&["diff", "nonesuch", "-o", path.to_str().unwrap()], 1);
    store.fails(&["diff", "child", "-o", store.path("no/such/dir").to_str().unwrap()], 1);
    assert_eq!(names(store.path("out")), ["child.tar", "link"]);
}

#[test]
fn create_list_exists_usage_metadata() {
    let store = store();
    store.ok(&["create", "--rw", "work", "--parent", "child"]);
    store.ok(&["create", "copy", "--template", "child"]);
    assert_eq!(store.list(), ["base", "child", "copy", "work"]);
    let json: Value = serde_json::from_str(&store.ok(&["list", "--json"])).unwrap();
    assert_eq!(json[0], serde_json::json!({"id": "base", "parent": null}));
    assert_eq!(json[3], serde_json::json!({"id": "work", "parent": "child"}));
    assert_eq!(store.read("copy", "etc/motd").as_deref(), Some("bye\n"));
    assert_eq!(store.run(&["exists", "work"]).status.code(), Some(0));
    let missing = store.run(&["exists", "nonesuch"]);
    assert_eq!((missing.status.code(), missing.stderr.len()), (Some(1), 0));
    let usage: Value = serde_json::from_str(&store.ok(&["usage", "base", "--json"])).unwrap();
    assert!(usage["bytes"].as_u64() >= Some(7) && usage["inodes"].as_u64() >= Some(4), "{usage}");
    serde_json::from_str::<Value>(&store.ok(&["metadata", "base", "--json"])).unwrap();
}

#[test]
fn what_is_written_through_a_mount_shows() {
    let store = store();
    store.ok(&["create", "--rw", "work", "--parent", "child"]);
    let root = store.ok(&["mount", "work"]);
    fs::write(format!("{}/etc/motd", root.trim_end()), "BYE\n").unwrap();
    store.ok(&["unmount", "work"]);
    assert_eq!(store.ok(&["changes", "work"]), "C /etc\nC /etc/motd\n");
}

#[test]
fn layers_go_children_first_whatever_the_order_given() {
    let store = store();
    store.ok(&["create", "top", "--parent", "child"]);
    store.ok(&["create", "other"]);
    let message = store.fails(&["remove", "base"], 1);
    assert!(message.contains("base"), "{message}");
    store.ok(&["remove", "base", "top", "child", "top"]);
    assert_eq!(store.list(), ["other"]);
    // Those that can be removed are, and each failure is told.
    let output = store.run(&["remove", "nonesuch", "other", "neither"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 2);
    assert!(store.list().is_empty());
    store.assert_clean();
}

#[test]
fn dedup_tells_the_bytes_gained() {
    let store = store();
    assert!(store.apply("same", None, &base()).status.success());
    // What it is depends on the file system; a second run has nothing left to do.
    store.ok(&["dedup", "--hash", "sha256"]).trim_end().parse::<u64>().unwrap();
    assert_eq!(store.ok(&["dedup"]), "0\n");
    assert_eq!(store.ok(&["--json", "dedup", "base", "same", "--hash", "size"]), "{\"bytes\":0}\n");
    assert!(store.fails(&["dedup", "base", "missing"], 1).contains("missing"));
}

#[test]
fn a_mount_through_id_maps_is_refused_where_it_would_show_the_owners_on_disk() {
    let store = store();
    let message = store.fails(&["mount", "child", "--uidmap", "0:100000:1000"], 3);
    assert!(message.contains("cannot show other owners"), "{message}");
    store.fails(&["mount", "child", "--uidmap", "0:100000:1000", "--uidmap", "5:200000:1"], 2);
    assert_eq!(store.run(&["mount", "child", "--uidmap", "0:100000"]).status.code(), Some(2));
}

#[test]
#[ignore = "needs root"]
fn a_mount_through_id_maps_shows_the_owners_on_the_host() {
    let store = Store::new();
    fs::write(store.path("base.tar"), base()).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.arg("--root").arg(store.path("overlay")).arg("--run-root").arg(store.path("overlay-run"));
        command.args(["--driver", "overlay"]).args(arguments).output().unwrap()
    };
    let ok = |arguments: &[&str]| {
        let output = run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    };
    let owner = |path: String| {
        let stat = fs::symlink_metadata(path).unwrap();
        (stat.uid(), stat.gid())
    };
    ok(&["apply", "base", store.path("base.tar").to_str().unwrap()]);
    let maps = ["--uidmap", "0:100000:1000", "--gidmap", "0:200000:1000"];
    ok(&[&["create", "--rw", "work", "--parent", "base"], &maps[..]].concat());
    let mount = [&["mount", "work"], &maps[..]].concat();
    let path = ok(&mount);
    assert_eq!(owner(format!("{path}/etc/motd")), (100_000, 200_000));
    assert_eq!(owner(format!("{}/overlay/overlay/work/diff", store.path("").display())), (100_000, 200_000));
    // The mount outlives the process, and is shared with who wants the same one.
    assert_eq!(ok(&mount), path);
    let refused = run(&["mount", "work"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("uid 0:100000:1000 gid 0:200000:1000"));
    ok(&["unmount", "work"]);
    ok(&["unmount", "work"]);
    ok(&["remove", "work", "base"]);
}
