//! What random edits hardly ever make.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use graphdriver_core::{Change, naive};
use graphdriver_sys::btrfs::subvolume::{self, SubvolumeFlags};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::volume::{Volume, id};

fn printed(changes: &[Change]) -> Vec<String> {
    changes.iter().map(Change::to_string).collect()
}

/// Checks that both ways agree, and gives what they say.
fn agreed(volume: &Volume, layer: &str, base: &str) -> Vec<String> {
    let native = volume.native(layer, base).expect("they are related");
    assert_eq!(native, volume.compared(layer, base));
    printed(&native)
}

fn write(root: &Path, path: &str, contents: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
}

fn edit_in_place(path: &Path) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(b"edited", 0).unwrap();
}

fn swap(root: &Path, one: &str, other: &str) {
    let (one, other) = (root.join(one), root.join(other));
    renameat2(AT_FDCWD, &one, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE).unwrap();
}

/// A child without the driver, in the transaction after which nothing else happens.
fn snapshot(volume: &Volume, layer: &str, name: &str) {
    let root = volume.layer(layer);
    let above = File::open(root.parent().unwrap()).unwrap();
    subvolume::snapshot(above, name, File::open(root).unwrap(), SubvolumeFlags::empty()).unwrap();
}

#[test]
#[ignore = "needs root"]
fn a_fresh_child_has_none() {
    let volume = Volume::new("");
    let base = volume.create("base", None);
    write(&base, "d/file", "contents");
    volume.create("child", Some("base"));
    assert_eq!(agreed(&volume, "child", "base"), [""; 0]);
}

#[test]
#[ignore = "needs root"]
fn edits_around_the_moment_of_the_snapshot() {
    let volume = Volume::new("");
    let base = volume.create("base", None);
    for round in 0..20 {
        let child = format!("child-{round}");
        // Before and after within one tick of the clock that files are stamped with.
        write(&base, "before", &format!("{round:6}"));
        write(&base, "after", "before");
        snapshot(&volume, "base", &child);
        edit_in_place(&volume.layer(&child).join("after"));
        assert_eq!(agreed(&volume, &child, "base"), ["C /after"], "round {round}");
    }
}

/// Reads every directory, which the file system notes in each.
/// The number that a tree has for an inode stays what it was until contents are on disk.
#[test]
#[ignore = "needs root"]
fn contents_that_no_disk_has_yet() {
    let volume = Volume::new("");
    let base = volume.create("base", None);
    write(&base, "file", "contents");
    write(&base, "other", "contents");
    let child = volume.create("child", Some("base"));
    edit_in_place(&base.join("file"));
    assert_eq!(agreed(&volume, "child", "base"), ["C /file"]);
    assert_eq!(agreed(&volume, "base", "child"), ["C /file"]);
    edit_in_place(&child.join("other"));
    assert_eq!(agreed(&volume, "child", "base"), ["C /file", "C /other"]);
}

fn read_through(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            read_through(&entry.path());
        }
    }
}

#[test]
#[ignore = "needs root"]
fn directories_that_were_read_only_are_no_changes() {
    let volume = Volume::new("strictatime");
    let base = volume.create("base", None);
    for dir in ["read", "read/renamed", "read/inside", "read/attributes", "quiet"] {
        write(&base, &format!("{dir}/old"), "");
        write(&base, &format!("{dir}/file"), "before");
    }
    let child = volume.create("child", Some("base"));
    read_through(&child.join("read"));
    assert_eq!(agreed(&volume, "child", "base"), [""; 0]);
    // Of the same length as before, so that the directory's size says nothing.
    fs::rename(child.join("read/renamed/old"), child.join("read/renamed/new")).unwrap();
    fs::set_permissions(child.join("read/attributes"), fs::Permissions::from_mode(0o700)).unwrap();
    edit_in_place(&child.join("read/inside/file"));
    read_through(&child);
    let expected = [
        "C /read",
        "C /read/attributes",
        "C /read/inside",
        "C /read/inside/file",
        "C /read/renamed",
        "A /read/renamed/new",
        "D /read/renamed/old",
    ];
    let mut changes = agreed(&volume, "child", "base");
    changes.sort_by(|one, other| one[2..].cmp(&other[2..]));
    assert_eq!(changes, expected);
    // Now the base's directories were read, too.
    read_through(&base);
    changes = agreed(&volume, "child", "base");
    changes.sort_by(|one, other| one[2..].cmp(&other[2..]));
    assert_eq!(changes, expected);
}

#[test]
#[ignore = "needs root"]
fn both_changed_alike_and_at_once() {
    let volume = Volume::new("");
    let base = volume.create("base", None);
    for round in 0..20 {
        write(&base, &format!("{round}/one"), "");
        write(&base, &format!("{round}/two"), "");
    }
    let child = volume.create("child", Some("base"));
    let mut expected = Vec::new();
    for round in 0..20 {
        // Within one tick of the clock, both directories lose a name of the same length, which leaves no trace but in them.
        fs::remove_file(base.join(format!("{round}/one"))).unwrap();
        fs::remove_file(child.join(format!("{round}/two"))).unwrap();
        expected.extend([format!("C /{round}"), format!("A /{round}/one"), format!("D /{round}/two")]);
    }
    let mut changes = agreed(&volume, "child", "base");
    changes.sort_by(|one, other| one[2..].cmp(&other[2..]));
    expected.sort_by(|one, other| one[2..].cmp(&other[2..]));
    assert_eq!(changes, expected);
}

#[test]
#[ignore = "needs root"]
fn directories_of_the_same_size_as_before() {
    let volume = Volume::new("");
    let base = volume.create("base", None);
    for dir in ["file", "link", "rename", "subvolume", "kept"] {
        write(&base, &format!("{dir}/old"), "old");
    }
    let child = volume.create("child", Some("base"));
    for dir in ["file", "link", "subvolume"] {
        fs::remove_file(child.join(dir).join("old")).unwrap();
    }
    write(&child, "file/new", "new");
    fs::hard_link(child.join("kept/old"), child.join("link/new")).unwrap();
    fs::rename(child.join("rename/old"), child.join("rename/new")).unwrap();
    subvolume::create(File::open(child.join("subvolume")).unwrap(), "new").unwrap();
    let mut expected = vec!["C /kept".to_owned(), "C /kept/old".to_owned()];
    for dir in ["file", "link", "rename", "subvolume"] {
        expected.extend([format!("C /{dir}"), format!("A /{dir}/new"), format!("D /{dir}/old")]);
    }
    let mut changes = agreed(&volume, "child", "base");
    changes.sort_by(|one, other| one[2..].cmp(&other[2..]));
    expected.sort_by(|one, other| one[2..].cmp(&other[2..]));
    assert_eq!(changes, expected);
}

#[test]
#[ignore = "needs root"]
fn names_that_were_removed() {
    let volume = Volume::new("");
    let base = volume.create("base", None);
    // Of more files than a block of the tree has room for.
    for number in 0..1000 {
        write(&base, &format!("d/{number:03}"), "");
    }
    for link in ["d/link", "link"] {
        fs::hard_link(base.join("d/500"), base.join(link)).unwrap();
    }
    write(&base, "gone/one", "");
    let child = volume.create("child", Some("base"));
    let in_child = |path: &str| child.join(path);
    let still_open = File::open(in_child("d/100")).unwrap();
    for path in ["d/000", "d/100", "d/999", "d/link"] {
        fs::remove_file(in_child(path)).unwrap();
    }
    for number in 300..350 {
        fs::remove_file(in_child(&format!("d/{number}"))).unwrap();
    }
    fs::create_dir(in_child("new")).unwrap();
    fs::rename(in_child("d/700"), in_child("new/moved")).unwrap();
    fs::remove_file(in_child("d/800")).unwrap();
    fs::write(in_child("d/800"), "another").unwrap();
    fs::remove_file(in_child("gone/one")).unwrap();
    fs::remove_dir(in_child("gone")).unwrap();
    let mut expected: Vec<String> =
        ["A /new", "A /new/moved", "C /d", "C /d/800", "D /gone"].into_iter().map(str::to_owned).collect();
    expected.extend(["000", "100", "700", "999", "link"].map(|name| format!("D /d/{name}")));
    expected.extend((300..350).map(|number| format!("D /d/{number}")));
    let mut changes = agreed(&volume, "child", "base");
    changes.sort();
    expected.sort();
    assert_eq!(changes, expected);
    drop(still_open);
}

#[test]
#[ignore = "needs root"]
fn another_name_of_a_file_that_moved_along_with_its_directory() {
    let volume = Volume::new("");
    let base = volume.create("base", None);
    write(&base, "one/file", "1");
    write(&base, "two/file", "22");
    fs::create_dir_all(base.join("far/away")).unwrap();
    fs::hard_link(base.join("one/file"), base.join("far/away/link")).unwrap();
    let child = volume.create("child", Some("base"));
    swap(&child, "one", "two");
    let expected =
        ["C /far", "C /far/away", "C /far/away/link", "C /one", "C /one/file", "C /two", "C /two/file"];
    assert_eq!(agreed(&volume, "child", "base"), expected);
}

#[test]
#[ignore = "needs root"]
fn what_lies_deep_in_directories_that_were_swapped() {
    let volume = Volume::new("");
    let base = volume.create("base", None);
    for dir in ["one", "two"] {
        write(&base, &format!("{dir}/same/name/kept"), dir);
        write(&base, &format!("{dir}/same/name/edited"), "before");
        write(&base, &format!("{dir}/same/only-{dir}"), "");
    }
    let child = volume.create("child", Some("base"));
    swap(&child, "one", "two");
    edit_in_place(&child.join("one/same/name/edited"));
    let changes = agreed(&volume, "child", "base");
    for expected in
        ["C /one/same/name/kept", "A /one/same/only-two", "D /two/same/only-two", "C /one/same/name/edited"]
    {
        assert!(changes.iter().any(|change| change == expected), "{expected} in {changes:?}");
    }
}

#[test]
#[ignore = "needs root"]
fn more_names_than_an_item_holds() {
    let volume = Volume::new("");
    let base = volume.create("base", None);
    write(&base, "dir/file", "before");
    for number in 0..500 {
        let name = format!("{number:0>200}");
        fs::hard_link(base.join("dir/file"), base.join("dir").join(name)).unwrap();
    }
    let child = volume.create("child", Some("base"));
    edit_in_place(&child.join("dir/file"));
    assert_eq!(agreed(&volume, "child", "base").len(), 502);
}

#[test]
#[ignore = "needs root"]
fn files_that_were_only_read() {
    let volume = Volume::new("strictatime");
    let base = volume.create("base", None);
    write(&base, "small", "contents");
    write(&base, "large", &"contents".repeat(10_000));
    let child = volume.create("child", Some("base"));
    for name in ["small", "large"] {
        fs::read(child.join(name)).unwrap();
    }
    assert_eq!(agreed(&volume, "child", "base"), [""; 0]);
}

#[test]
#[ignore = "needs root"]
fn subvolumes_inside_of_layers() {
    let volume = Volume::new("");
    let base = volume.create("base", None);
    fs::create_dir_all(base.join("a/b")).unwrap();
    subvolume::create(File::open(base.join("a/b")).unwrap(), "inner").unwrap();
    write(&base, "a/b/inner/dir/file", "before");
    let child = volume.create("child", Some("base"));
    fs::create_dir_all(child.join("c")).unwrap();
    subvolume::create(File::open(child.join("c")).unwrap(), "own").unwrap();
    write(&child, "c/own/file", "new");
    let changes = agreed(&volume, "child", "base");
    for expected in ["C /a/b/inner", "D /a/b/inner/dir", "A /c/own/file"] {
        assert!(changes.iter().any(|change| change == expected), "{expected} in {changes:?}");
    }
    // In the older tree nothing but the inner one's own tree changes.
    write(&base, "a/b/inner/later", "");
    let changes = agreed(&volume, "child", "base");
    assert!(changes.iter().any(|change| change == "D /a/b/inner/later"), "{changes:?}");
}

#[test]
#[ignore = "needs root"]
fn pairs_that_nothing_is_known_of() {
    let volume = Volume::new("");
    let base = volume.create("base", None);
    write(&base, "file", "contents");
    let stranger = volume.create("stranger", None);
    write(&stranger, "other", "contents");
    assert_eq!(volume.native("stranger", "base"), None);
    assert_eq!(
        printed(&volume.graph.changes(&id("stranger"), Some(&id("base"))).unwrap()),
        ["D /file", "A /other"]
    );
    // A copy that somebody made is no subvolume, and is in one.
    fs::create_dir(volume.layer("directory")).unwrap();
    assert_eq!(volume.native("directory", "base"), None);
    // What lay between is gone, and with it the knowledge of when they parted.
    snapshot(&volume, "base", "middle");
    snapshot(&volume, "middle", "top");
    assert_eq!(agreed(&volume, "top", "base"), [""; 0]);
    subvolume::destroy(File::open(volume.layer("middle").parent().unwrap()).unwrap(), "middle").unwrap();
    assert_eq!(volume.native("top", "base"), None);
}

#[test]
#[ignore = "needs root"]
fn the_general_way_agrees_where_times_tell() {
    let volume = Volume::new("");
    let base = volume.create("base", None);
    write(&base, "a/kept", "kept");
    write(&base, "a/edited", "before");
    write(&base, "b/removed", "");
    let child = volume.create("child", Some("base"));
    edit_in_place(&child.join("a/edited"));
    fs::remove_file(child.join("b/removed")).unwrap();
    let walked = naive::changes(&volume.graph, &id("child"), Some(&id("base"))).unwrap();
    assert_eq!(agreed(&volume, "child", "base"), printed(&walked));
    let native =
        volume.graph.driver().native_diff().unwrap().diff_size(&id("child"), Some(&id("base"))).unwrap();
    assert_eq!(native, Some(naive::diff_size(&volume.graph, &id("child"), Some(&id("base"))).unwrap()));
}

/// Some of the files have their metadata at the end of a block, and their names in the next one, which nobody wrote to.
#[test]
#[ignore = "needs root"]
fn names_that_lie_in_another_block() {
    let volume = Volume::new("");
    let base = volume.create("base", None);
    let name = |number: usize| format!("{number:0>200}");
    for number in 0..20_000 {
        File::create(base.join(name(number))).unwrap();
    }
    let child = volume.create("child", Some("base"));
    let changed: Vec<_> = (0..20_000).step_by(97).map(name).collect();
    for name in &changed {
        fs::set_permissions(child.join(name), fs::Permissions::from_mode(0o700)).unwrap();
    }
    let expected: Vec<_> = changed.iter().map(|name| format!("C /{name}")).collect();
    assert_eq!(printed(&volume.native("child", "base").unwrap()), expected);
}
