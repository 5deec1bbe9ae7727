//! Of entries with the same name the later wins, whoever is faster.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use graphdriver_archive::{Applied, ApplyOptions};

use super::support::{Archive, Dest};

#[test]
fn later_entries_win() {
    let dest = Dest::new();
    let archive = Archive::new()
        .file("file", "old")
        .file("file", "new")
        .file("dir", "was a file")
        .dir("dir/")
        .file("dir/inside", "1")
        .dir("gone/")
        .file("gone/inside", "1")
        .file("gone", "is a file")
        .file("target", "kept")
        .symlink("link", "target")
        .file("link", "no link")
        .dir("real/")
        .symlink("to-real", "real")
        .dir("to-real/")
        .file("to-real/x", "2");
    dest.apply(&archive).unwrap();
    let expected = [
        "dir/",
        "dir/inside = 1",
        "file = new",
        "gone = is a file",
        "link = no link",
        "real/",
        "target = kept",
        "to-real/",
        "to-real/x = 2",
    ];
    assert_eq!(dest.list(), expected);
}

#[test]
fn a_directory_entry_merges_with_a_directory() {
    let dest = Dest::new();
    fs::create_dir_all(dest.path("dir/sub")).unwrap();
    let mut header = Archive::header(b'5', "dir/");
    header.set_mode(0o711);
    dest.apply(&Archive::new().push(header, "").file("dir/file", "1")).unwrap();
    assert_eq!(dest.list(), ["dir/", "dir/file = 1", "dir/sub/"]);
    assert_eq!(dest.stat("dir").permissions().mode() & 0o7777, 0o711);
}

#[test]
fn large_and_small_files_overtake_each_other_without_effect() {
    for threads in [1, 2, 4, 9] {
        let dest = Dest::new();
        let mut archive = Archive::new();
        for round in 0..6_u8 {
            archive = archive.file("large", vec![round; 3_500_000 + usize::from(round)]);
            archive = archive.link(&format!("link-{round}"), "large");
            for small in 0..40 {
                archive = archive.file(&format!("small-{small}"), [round; 100]);
            }
        }
        let applied =
            dest.apply_with(&archive, &ApplyOptions { threads, ..ApplyOptions::default() }).unwrap();
        let bytes = 6 * 3_500_000 + 15 + 6 * 40 * 100;
        assert_eq!(applied, Applied { entries: 6 * 42, bytes, archive: None });
        for round in 0..6_u8 {
            let content = fs::read(dest.path(&format!("link-{round}"))).unwrap();
            assert!(
                content.len() == 3_500_000 + usize::from(round) && content.iter().all(|byte| *byte == round)
            );
        }
        assert_eq!(dest.stat("large").ino(), dest.stat("link-5").ino());
        for small in 0..40 {
            assert_eq!(fs::read(dest.path(&format!("small-{small}"))).unwrap(), [5; 100]);
        }
    }
}

#[test]
fn a_stream_in_small_pieces_is_the_same_stream() {
    struct Pieces<'a>(&'a [u8]);
    impl std::io::Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let most = buffer.len().min(7);
            self.0.read(&mut buffer[..most])
        }
    }
    let dest = Dest::new();
    let archive = Archive::new().file("a", vec![b'x'; 5000]).file("b", "2").bytes();
    let mut pieces = Pieces(&archive);
    graphdriver_archive::apply(&dest.root(), &mut pieces, &ApplyOptions::default()).unwrap();
    assert!(pieces.0.is_empty());
    assert_eq!(dest.read("a").len(), 5000);
}
