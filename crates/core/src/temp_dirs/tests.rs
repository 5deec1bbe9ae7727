//! Temporary directories of this and of killed processes.

use std::os::unix::fs::PermissionsExt;
use std::thread;

use super::*;

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A home, and the path of its temporary directories.
fn home() -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("tempdirs");
    (home, path)
}

#[test]
fn a_directory_and_its_lock_come_and_go_together() {
    let (home, path) = home();
    let temp_dirs = TempDirs::open(home.path()).unwrap();
    assert_eq!(names(&path), [""; 0]);
    let dir = temp_dirs.create().unwrap();
    let id = dir.path().file_name().unwrap().to_str().unwrap().strip_prefix("temp-dir-").unwrap().to_owned();
    assert_eq!(names(&path), [format!("lock-{id}"), format!("temp-dir-{id}")]);
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    fs::write(dir.path().join("a/b/file"), b"x").unwrap();
    dir.delete().unwrap();
    assert_eq!(names(&path), [""; 0]);
    drop(temp_dirs.create().unwrap());
    assert_eq!(names(&path), [""; 0], "dropping deletes too");
}

#[test]
fn what_is_taken_in_is_numbered_and_deleted() {
    let (home, path) = home();
    let dir = TempDirs::open(home.path()).unwrap().create().unwrap();
    fs::create_dir(home.path().join("layer")).unwrap();
    fs::write(home.path().join("layer/file"), b"x").unwrap();
    fs::write(home.path().join("link"), b"x").unwrap();
    assert_eq!(dir.take_in(&home.path().join("layer")).unwrap(), dir.path().join("0-layer"));
    assert_eq!(dir.take_in(&home.path().join("link")).unwrap(), dir.path().join("1-link"));
    assert_eq!(names(home.path()), ["tempdirs"]);
    assert_eq!(fs::read(dir.path().join("0-layer/file")).unwrap(), b"x");
    dir.delete().unwrap();
    assert_eq!(names(&path), [""; 0]);
}

#[test]
fn what_cannot_be_taken_in_is_an_error() {
    let (home, _) = home();
    let dir = TempDirs::open(home.path()).unwrap().create().unwrap();
    let missing = home.path().join("missing");
    let error = dir.take_in(&missing).unwrap_err();
    assert_eq!(error.failed_path(), Some(&*missing));
    assert!(error.report().to_string().contains("No such file"), "{}", error.report());
    assert_eq!(dir.take_in(Path::new("/")).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn the_longest_names_can_be_taken_in() {
    let (home, _) = home();
    let dir = TempDirs::open(home.path()).unwrap().create().unwrap();
    let longest = "x".repeat(255);
    for number in 0..2 {
        fs::write(home.path().join(&longest), b"x").unwrap();
        let now = dir.take_in(&home.path().join(&longest)).unwrap();
        assert!(now.file_name().unwrap().to_str().unwrap().starts_with(&format!("{number}-xxx")));
    }
    assert_eq!(names(dir.path()).len(), 2);
}

#[test]
fn a_file_is_written_beside_nothing() {
    let (home, path) = home();
    let temp_dirs = TempDirs::open(home.path()).unwrap();
    let file = home.path().join("dir/file");
    fs::create_dir(home.path().join("dir")).unwrap();
    for contents in ["old", "new"] {
        temp_dirs.write_atomic(&file, contents.as_bytes(), 0o640).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), contents);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o640);
    }
    // Not even after a failure.
    fs::create_dir(home.path().join("dir/taken")).unwrap();
    let taken = home.path().join("dir/taken");
    let error = temp_dirs.write_atomic(&taken, b"x", 0o640).unwrap_err();
    assert_eq!(error.failed_path(), Some(&*taken));
    assert_eq!(names(&home.path().join("dir")), ["file", "taken"]);
    assert_eq!(names(&path), [""; 0]);
}

#[test]
fn only_what_nobody_holds_is_swept() {
    let (home, path) = home();
    let held = TempDirs::open(home.path()).unwrap().create().unwrap();
    // Left by processes that were killed: before the directory was made, while it was used, and without a lock file.
    fs::write(path.join("lock-early"), b"").unwrap();
    fs::write(path.join("lock-late"), b"").unwrap();
    fs::create_dir_all(path.join("temp-dir-late/0-layer/sub")).unwrap();
    fs::create_dir(path.join("temp-dir-odd")).unwrap();
    fs::write(path.join("unrelated"), b"").unwrap();
    let temp_dirs = TempDirs::open(home.path()).unwrap();
    assert_eq!(names(&path).len(), 3);
    assert!(held.path().is_dir());
    held.delete().unwrap();
    temp_dirs.recover().unwrap();
    assert_eq!(names(&path), ["unrelated"]);
}

#[test]
fn a_leftover_that_cannot_be_swept_keeps_no_home_from_opening() {
    let (home, path) = home();
    TempDirs::open(home.path()).unwrap();
    // No lock file can be opened in the place of a directory.
    fs::create_dir(path.join("lock-bad")).unwrap();
    fs::create_dir(path.join("temp-dir-good")).unwrap();
    let temp_dirs = TempDirs::open(home.path()).unwrap();
    assert_eq!(names(&path), ["lock-bad"]);
    assert_eq!(temp_dirs.recover().unwrap_err().failed_path(), Some(&*path.join("lock-bad")));
    drop(temp_dirs.create().unwrap());
}

#[test]
fn making_and_sweeping_at_once() {
    let (home, path) = home();
    let temp_dirs = TempDirs::open(home.path()).unwrap();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let dir = temp_dirs.create().unwrap();
                    fs::write(dir.path().join("file"), b"x").unwrap();
                    dir.delete().unwrap();
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..300 {
                temp_dirs.recover().unwrap();
            }
        });
    });
    assert_eq!(names(&path), [""; 0]);
}

#[test]
fn a_missing_home_is_an_error() {
    let error = TempDirs::open(Path::new("/nonexistent")).unwrap_err();
    assert_eq!(error.failed_path(), Some(Path::new("/nonexistent/tempdirs")));
}
