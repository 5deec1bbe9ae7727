//! Two trees compared.

use std::collections::BTreeSet;
use std::fs::{self, File, FileTimes};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use graphdriver_archive::{
    Change, ChangeKind, CompareOptions, ContentCheck, IdMap, IdMaps, Suspects, changes, changes_among,
    changes_size, names_of,
};

use crate::support::{Tree, now_is_past, printed};

fn compared(new: &Tree, old: &Tree, options: &CompareOptions) -> Vec<String> {
    printed(&changes(&new.root(), Some(&old.root()), options).unwrap())
}

/// The tree that the tests of Go's archive package use.
fn sample() -> Tree {
    let tree = Tree::new();
    for number in 1..=3 {
        tree.dir(&format!("dir{number}"));
    }
    for number in 1..=5 {
        tree.file(&format!("file{number}"), format!("file{number}\n"));
        tree.file(&format!("dir1/file1-{number}"), format!("file1-{number}\n"));
        tree.symlink(&format!("symlink{number}"), &format!("target{number}"));
    }
    tree.mode("dir1", 0o1705).mode("file3", 0o600).settle();
    tree
}

#[test]
fn a_copy_has_no_changes() {
    let old = sample();
    let new = old.copy();
    let checks = [ContentCheck::Metadata, ContentCheck::Content, ContentCheck::CopiedAt(now_is_past())];
    for content in checks {
        assert_eq!(compared(&new, &old, &CompareOptions { content, ..CompareOptions::default() }), [""; 0]);
    }
}

#[test]
fn without_an_old_tree_all_is_added() {
    let tree = Tree::new();
    tree.file("a/b/c", "").file("a-b", "").symlink("a/s", "b");
    let found = printed(&changes(&tree.root(), None, &CompareOptions::default()).unwrap());
    assert_eq!(found, ["A /a", "A /a-b", "A /a/b", "A /a/b/c", "A /a/s"]);
}

#[test]
fn every_kind_of_change_is_found() {
    let old = sample();
    let new = old.copy();
    new.remove("dir1").remove("dir2").file("dir2", "now a file").time("dir3", 1_700_000_000, 0);
    new.dir("dirnew").remove("file1").file("file2", "other").mode("file3", 0o777).time(
        "file4",
        1_600_000_000,
        123_456_788,
    );
    new.remove("file5").dir("file5").file("filenew", "").remove("symlink1").symlink("symlinknew", "target");
    new.remove("symlink2").symlink("symlink2", "target0").time("symlink2", 1_600_000_000, 123_456_789);
    let expected = [
        "D /dir1",
        "C /dir2",
        "C /dir3",
        "A /dirnew",
        "D /file1",
        "C /file2",
        "C /file3",
        "C /file4",
        "C /file5",
        "A /filenew",
        "D /symlink1",
        "C /symlink2",
        "A /symlinknew",
    ];
    assert_eq!(compared(&new, &old, &CompareOptions::default()), expected);
}

#[test]
fn other_names_of_a_changed_file_are_listed() {
    let old = Tree::new();
    old.file("d/one", "1").link("d/two", "d/one").file("three", "3").file("four", "longer").settle();
    let new = old.copy();
    assert_eq!(compared(&new, &old, &CompareOptions::default()), [""; 0]);
    new.dir("new").link("new/name", "three").remove("four").link("four", "d/two");
    let expected = ["C /d", "C /d/one", "C /d/two", "C /four", "A /new", "A /new/name", "C /three"];
    assert_eq!(compared(&new, &old, &CompareOptions::default()), expected);
    // One name less changes nothing for those that stay.
    let less = old.copy();
    less.remove("d/two").time("d", 1_600_000_000, 123_456_789);
    assert_eq!(compared(&less, &old, &CompareOptions::default()), ["C /d", "D /d/two"]);
}

#[test]
fn directories_above_a_change_are_listed_but_not_the_root() {
    let old = Tree::new();
    old.file("a/b/c/file", "1").file("a/x/file", "2").dir("a/empty").settle();
    let new = old.copy();
    new.file("a/b/c/file", "3").mode(".", 0o700);
    assert_eq!(
        compared(&new, &old, &CompareOptions::default()),
        ["C /a", "C /a/b", "C /a/b/c", "C /a/b/c/file"]
    );
}

#[test]
fn a_directory_that_became_a_file_is_one_change_and_the_other_way_lists_what_is_in_it() {
    let old = Tree::new();
    old.file("was-dir/below", "").file("was-file", "").settle();
    let new = old.copy();
    new.remove("was-dir").file("was-dir", "").remove("was-file").file("was-file/below", "");
    let expected = ["C /was-dir", "C /was-file", "A /was-file/below"];
    assert_eq!(compared(&new, &old, &CompareOptions::default()), expected);
}

#[test]
fn a_nanosecond_counts_also_from_a_whole_second() {
    let old = Tree::new();
    old.file("file", "x").settle().time("file", 1_600_000_000, 0);
    let new = old.copy();
    new.time("file", 1_600_000_000, 1);
    assert_eq!(compared(&new, &old, &CompareOptions::default()), ["C /file"]);
}

#[test]
fn an_edit_with_the_old_time_put_back_is_found_by_content() {
    let old = Tree::new();
    old.file("file", "content").file("other", "x").settle();
    let new = old.copy();
    let copied = now_is_past();
    new.file("file", "CONTENT").settle();
    let by = |content| compared(&new, &old, &CompareOptions { content, ..CompareOptions::default() });
    assert_eq!(by(ContentCheck::Metadata), [""; 0]);
    assert_eq!(by(ContentCheck::Content), ["C /file"]);
    assert_eq!(by(ContentCheck::CopiedAt(copied)), ["C /file"]);
    // Nor is an edit of the original missed, which nothing of the copy tells.
    let new = old.copy();
    let copied = now_is_past();
    old.file("file", "CONTENT").settle();
    let options = CompareOptions { content: ContentCheck::CopiedAt(copied), ..CompareOptions::default() };
    assert_eq!(compared(&new, &old, &options), ["C /file"]);
}

#[test]
fn long_files_are_compared_to_their_end() {
    let old = Tree::new();
    let mut content = vec![7; 300_000];
    old.file("file", &content).settle();
    let new = old.copy();
    content[299_999] = 8;
    new.file("file", &content).settle();
    let options = CompareOptions { content: ContentCheck::Content, ..CompareOptions::default() };
    assert_eq!(compared(&new, &old, &options), ["C /file"]);
}

#[test]
fn user_xattrs_and_acls_count_but_not_those_of_overlay() {
    let old = Tree::new();
    for name in ["changed", "same", "overlay", "gone", "acl"] {
        old.file(name, "");
    }
    old.dir("dir")
        .xattr("changed", "user.a", b"1")
        .xattr("same", "user.a", b"1")
        .xattr("gone", "user.a", b"1")
        .settle();
    let new = old.copy();
    new.xattr("changed", "user.a", b"2").xattr("dir", "user.b", b"").xattr(
        "overlay",
        "user.overlay.origin",
        b"",
    );
    graphdriver_sys::xattr::fremove(File::open(new.path("gone")).unwrap(), "user.a").unwrap();
    let entry =
        |tag: u8, permissions: u8, id: u32| [&[tag, 0, permissions, 0][..], &id.to_le_bytes()].concat();
    let acl = [
        vec![2, 0, 0, 0],
        entry(1, 6, u32::MAX),
        entry(2, 4, 12),
        entry(4, 4, u32::MAX),
        entry(16, 4, u32::MAX),
        entry(32, 4, u32::MAX),
    ];
    new.xattr("acl", "system.posix_acl_access", &acl.concat());
    assert_eq!(
        compared(&new, &old, &CompareOptions::default()),
        ["C /acl", "C /changed", "C /dir", "C /gone"]
    );
}

#[test]
#[ignore = "needs root"]
fn owners_are_compared_as_the_container_sees_them() {
    let old = Tree::new();
    old.file("shifted", "").file("kept", "").settle();
    let new = old.copy();
    for name in [".", "shifted"] {
        std::os::unix::fs::lchown(new.path(name), Some(100_000), Some(100_000)).unwrap();
    }
    let range = IdMap { container_id: 0, host_id: 100_000, size: 65536 };
    let maps = IdMaps::new(vec![range], vec![range]).unwrap();
    let options = CompareOptions { new_id_maps: maps, ..CompareOptions::default() };
    // `kept` is still 0:0, which has no place in the new maps: then ids are compared as they are.
    assert_eq!(compared(&new, &old, &options), [""; 0]);
    assert_eq!(compared(&new, &old, &CompareOptions::default()), ["C /shifted"]);
}

#[test]
fn names_and_depths_of_any_kind() {
    let old = Tree::new();
    let deep = "d/".repeat(300);
    old.file(&format!("{deep}leaf"), "").settle();
    let new = old.copy();
    new.file(&format!("{deep}leaf"), "changed");
    let odd: std::ffi::OsString = std::os::unix::ffi::OsStringExt::from_vec(b"\xff\n".to_vec());
    fs::write(new.path("").join(&odd), "").unwrap();
    let found = changes(&new.root(), Some(&old.root()), &CompareOptions::default()).unwrap();
    assert_eq!(found.len(), 302);
    assert_eq!(found[301], Change::new(std::path::Path::new("/").join(odd), ChangeKind::Add));
}

#[test]
fn many_directories_are_shared_between_threads_without_loss() {
    let old = Tree::new();
    for number in 0..2000 {
        old.file(&format!("{}/{}/{number}", number % 10, number % 100), "");
    }
    old.settle();
    let new = old.copy();
    for number in (0..2000).step_by(7) {
        let file =
            File::options().write(true).open(new.path(&format!("{}/{}/{number}", number % 10, number % 100)));
        let time = now_ish() + Duration::from_secs(number);
        file.unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
    }
    let found = changes(&new.root(), Some(&old.root()), &CompareOptions::default()).unwrap();
    assert_eq!(found.iter().filter(|change| change.path.components().count() == 4).count(), 286);
    assert!(found.is_sorted());
    assert_eq!(found, changes(&new.root(), Some(&old.root()), &CompareOptions::default()).unwrap());
}

fn now_ish() -> std::time::SystemTime {
    std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

#[test]
fn size_counts_each_inode_once_and_deletions_not() {
    let tree = Tree::new();
    tree.file("one", "foo").file("two", "bar").dir("dir");
    for number in 0..100 {
        let (first, second) = (format!("dir/{number}"), format!("dir/{number}-link"));
        tree.file(&first, "0123456789").link(&second, &first);
    }
    let all = changes(&tree.root(), None, &CompareOptions::default()).unwrap();
    assert_eq!(changes_size(&tree.root(), &all).unwrap(), 1006);
    assert_eq!(changes_size(&tree.root(), &[]).unwrap(), 0);
    let kinds = |kind| ["/one", "/gone"].map(|path| Change::new(path, kind));
    assert_eq!(changes_size(&tree.root(), &kinds(ChangeKind::Delete)).unwrap(), 0);
    assert_eq!(changes_size(&tree.root(), &kinds(ChangeKind::Modify)).unwrap(), 3);
}

/// Trees of one origin, as far as that can be had anywhere: files that are the same inodes.
#[test]
fn only_suspects_are_compared() {
    let (old, new) = (Tree::new(), Tree::new());
    for name in ["kept", "replaced", "removed", "d/file"] {
        old.file(name, "contents");
    }
    new.dir("d");
    for name in ["kept", "d/file"] {
        fs::hard_link(old.path(name), new.path(name)).unwrap();
    }
    new.file("replaced", "other contents").file("added", "");
    let among = |suspects: &Suspects| {
        let no_names = |_: &BTreeSet<u64>| Ok(Vec::new());
        let found = changes_among(suspects, &new.root(), &old.root(), &CompareOptions::default(), &no_names);
        printed(&found.unwrap())
    };
    let mut suspects = Suspects::new();
    assert_eq!(among(&suspects), [""; 0]);
    for name in ["removed", "added", "never-there"] {
        suspects.add(suspects.root(), name.as_bytes());
    }
    assert_eq!(among(&suspects), ["A /added", "D /removed"]);
    // What has another inode number is compared, whether it was suspect or not.
    suspects.list(suspects.root());
    let times_of_d =
        |changes: Vec<String>| changes.into_iter().filter(|change| change != "C /d").collect::<Vec<_>>();
    assert_eq!(times_of_d(among(&suspects)), ["A /added", "D /removed", "C /replaced"]);
}

/// As where something is mounted in one of the trees.
#[test]
fn directories_that_lead_on_are_compared_where_they_are_not_the_same() {
    let (old, new) = (Tree::new(), Tree::new());
    old.dir("d").file("d/file", "before");
    new.dir("d").file("d/file", "after").file("d/other", "");
    let mut suspects = Suspects::new();
    let d = suspects.lead(suspects.root(), b"d");
    suspects.add(d, b"file");
    let no_names = |_: &BTreeSet<u64>| Ok(Vec::new());
    let found = changes_among(&suspects, &new.root(), &old.root(), &CompareOptions::default(), &no_names);
    assert_eq!(printed(&found.unwrap()), ["C /d", "C /d/file", "A /d/other"]);
}

#[test]
fn other_names_of_a_changed_suspect_are_asked_for() {
    let (old, new) = (Tree::new(), Tree::new());
    old.file("file", "before");
    new.file("file", "after").dir("far").link("far/name", "file");
    let mut suspects = Suspects::new();
    suspects.add(suspects.root(), b"file");
    let inode = fs::metadata(new.path("file")).unwrap().ino();
    let names = |asked: &BTreeSet<u64>| {
        assert_eq!(*asked, BTreeSet::from([inode]));
        Ok(names_of(&new.root(), asked)?)
    };
    let among = |suspects: &Suspects| {
        changes_among(suspects, &new.root(), &old.root(), &CompareOptions::default(), &names).unwrap()
    };
    assert_eq!(printed(&among(&suspects)), ["C /far", "C /far/name", "C /file"]);
    // Nobody is asked when all were met.
    let far = suspects.add(suspects.root(), b"far");
    suspects.add(far, b"name");
    let met =
        |_: &BTreeSet<u64>| -> std::io::Result<Vec<std::path::PathBuf>> { panic!("all names were met") };
    changes_among(&suspects, &new.root(), &old.root(), &CompareOptions::default(), &met).unwrap();
}
