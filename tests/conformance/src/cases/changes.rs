//! Which paths are reported as changed.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::content;
use crate::store::Store;

/// Modified, added and deleted files side by side, and the directory that holds them.
pub fn twenty_files(store: &Store) {
    let base = store.create("base", None);
    store.edit(&base, |root| content::write_files(root, 20, 5));
    store.tick();
    let child = store.create("child", Some(&base));
    let mut expected = BTreeSet::from(["C /directory-0".to_owned()]);
    store.edit(&child, |root| {
        let dir = root.join("directory-0");
        for index in 0..20 {
            let file = dir.join(format!("file-{index}"));
            match index % 3 {
                0 => {
                    fs::write(&file, content::bytes(100 + index, 64)).unwrap();
                    expected.insert(format!("C /directory-0/file-{index}"));
                }
                1 => {
                    fs::write(dir.join(format!("new-{index}")), "new").unwrap();
                    expected.insert(format!("A /directory-0/new-{index}"));
                }
                _ => {
                    fs::remove_file(&file).unwrap();
                    expected.insert(format!("D /directory-0/file-{index}"));
                }
            }
        }
    });
    let changes = store.changes(&child, Some(&base));
    assert!(changes.is_sorted_by_key(|change| change[2..].to_owned()), "{changes:?}");
    assert_eq!(BTreeSet::from_iter(changes), expected);
    assert_eq!(store.changes(&base, Some(&base)), [""; 0]);
}

/// One change of each kind that a file system knows.
pub fn by_kind(store: &Store) {
    let base = store.create("base", None);
    store.edit(&base, |root| {
        for dir in ["dir-gone/below", "dir-to-file", "untouched/below"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        for file in [
            "gone",
            "contents",
            "mode",
            "file-to-dir",
            "renamed",
            "dir-to-file/inside",
            "untouched/file",
            "file-to-link",
        ] {
            fs::write(root.join(file), "base").unwrap();
        }
    });
    let child = store.create("child", Some(&base));
    store.edit(&child, |root| {
        fs::remove_file(root.join("gone")).unwrap();
        fs::write(root.join("contents"), "changed").unwrap();
        fs::set_permissions(root.join("mode"), Permissions::from_mode(0o600)).unwrap();
        fs::remove_file(root.join("file-to-dir")).unwrap();
        fs::create_dir(root.join("file-to-dir")).unwrap();
        fs::write(root.join("file-to-dir/inside"), "").unwrap();
        fs::rename(root.join("renamed"), root.join("new name")).unwrap();
        fs::remove_file(root.join("dir-to-file/inside")).unwrap();
        fs::remove_dir(root.join("dir-to-file")).unwrap();
        fs::write(root.join("dir-to-file"), "").unwrap();
        fs::remove_dir(root.join("dir-gone/below")).unwrap();
        fs::remove_dir(root.join("dir-gone")).unwrap();
        fs::remove_file(root.join("file-to-link")).unwrap();
        symlink("mode", root.join("file-to-link")).unwrap();
        fs::create_dir(root.join("new dir")).unwrap();
        fs::write(root.join("new dir/file"), "").unwrap();
        // Read, which is no change.
        fs::read(root.join("untouched/file")).unwrap();
    });
    let expected = [
        "C /contents",
        "D /dir-gone",
        "C /dir-to-file",
        "C /file-to-dir",
        "A /file-to-dir/inside",
        "C /file-to-link",
        "D /gone",
        "C /mode",
        "A /new dir",
        "A /new dir/file",
        "A /new name",
        "D /renamed",
    ];
    assert_eq!(store.changes(&child, Some(&base)), expected);
    assert_eq!(
        store.graph().diff_size(&child, Some(&base)).unwrap(),
        7 + 4 + 4 + 4,
        "contents, mode, new name, link"
    );
    let whole = store.changes(&child, None);
    assert!(
        whole.iter().all(|change| change.starts_with("A "))
            && whole.contains(&"A /untouched/file".to_owned()),
        "{whole:?}"
    );
}

pub fn symlink_target(store: &Store) {
    let base = store.create("base", None);
    store.edit(&base, |root| symlink("target-1", root.join("link")).unwrap());
    let child = store.create("child", Some(&base));
    store.edit(&child, |root| {
        let link = root.join("link");
        let time = link.symlink_metadata().unwrap().modified().unwrap();
        fs::remove_file(&link).unwrap();
        symlink("target-2", &link).unwrap();
        set_symlink_mtime(&link, time);
    });
    let changes = store.changes(&child, Some(&base));
    assert!(changes.contains(&"C /link".to_owned()), "{changes:?}");
}

fn set_symlink_mtime(link: &Path, time: std::time::SystemTime) {
    use nix::sys::stat::{UtimensatFlags, utimensat};
    let since = time.duration_since(std::time::UNIX_EPOCH).unwrap();
    let time = nix::sys::time::TimeSpec::from_duration(since);
    utimensat(nix::fcntl::AT_FDCWD, link, &time, &time, UtimensatFlags::NoFollowSymlink).unwrap();
}

const LEVELS: usize = 10;

/// Deleting at each level of a deep tree, and making it again: the best single test of whiteouts and opaque directories.
pub fn echo(store: &Store) {
    for depth in 0..LEVELS {
        let mut paths: Vec<String> = Vec::new();
        for level in 1..LEVELS {
            paths.push(format!("{}/subdir{level}", paths.last().map_or("", String::as_str)));
        }
        paths.push(format!("{}/file", paths[LEVELS - 2]));
        let base = store.create("base", None);
        store.edit(&base, |root| make(root, &paths, 0, depth));
        let listed = |kind: &str, range: &[String]| {
            range.iter().map(|path| format!("{kind} {path}")).collect::<Vec<_>>()
        };
        assert_eq!(store.changes(&base, None), listed("A", &paths));
        store.tick();

        let second = store.create("second", Some(&base));
        store.edit(&second, |root| remove_tree(&below(root, &paths[depth])));
        let expected = [listed("C", &paths[..depth]), listed("D", &paths[depth..=depth])].concat();
        assert_eq!(store.changes(&second, Some(&base)), expected, "deleted at depth {depth}");
        store.tick();

        let third = store.create("third", Some(&second));
        store.edit(&third, |root| make(root, &paths, depth, depth + 1));
        let expected = [listed("C", &paths[..depth]), listed("A", &paths[depth..])].concat();
        assert_eq!(store.changes(&third, Some(&second)), expected, "made again at depth {depth}");
        for layer in [&third, &second, &base] {
            store.remove(layer);
        }
    }
}

fn make(root: &Path, paths: &[String], from: usize, seed: usize) {
    let (file, dirs) = paths.split_last().unwrap();
    for dir in dirs.iter().skip(from) {
        fs::create_dir(below(root, dir)).unwrap();
    }
    fs::write(below(root, file), content::bytes(seed as u64, 128)).unwrap();
}

fn remove_tree(path: &Path) {
    let root = graphdriver_archive::RootDir::open(path.parent().unwrap()).unwrap();
    root.remove_all(Path::new(path.file_name().unwrap())).unwrap();
}

fn below(root: &Path, path: &str) -> std::path::PathBuf {
    root.join(path.trim_start_matches('/'))
}
