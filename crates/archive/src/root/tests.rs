//! Both ways of resolving, on real directories.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn tree() -> (tempfile::TempDir, RootDir) {
    let outside = tempfile::tempdir().unwrap();
    let root = outside.path().join("root");
    fs::create_dir_all(root.join("usr/lib")).unwrap();
    fs::write(root.join("usr/lib/file"), "inside").unwrap();
    fs::write(outside.path().join("secret"), "outside").unwrap();
    fs::write(root.join("secret"), "decoy").unwrap();
    symlink("usr/lib", root.join("lib")).unwrap();
    symlink("/usr/lib", root.join("absolute")).unwrap();
    symlink("../../../secret", root.join("escape")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    let opened = RootDir::open(&root).unwrap();
    (outside, opened)
}

#[test]
fn kernel_and_walk_resolve_alike() {
    let (_outside, root) = tree();
    let read = |open: &dyn Fn(&Path, OFlag) -> nix::Result<OwnedFd>, path: &str| {
        open(Path::new(path), OFlag::O_RDONLY).map(|fd| std::io::read_to_string(File::from(fd)).unwrap())
    };
    let by_kernel: &dyn Fn(&Path, OFlag) -> _ =
        &|path, flags| resolve::open(root.as_fd(), path, flags, Mode::empty());
    let by_hand: &dyn Fn(&Path, OFlag) -> _ =
        &|path, flags| resolve::walk(root.as_fd(), path, flags, Mode::empty());
    for (path, expected) in [
        ("usr/lib/file", Ok("inside")),
        ("/usr/lib/file", Ok("inside")),
        ("lib/file", Ok("inside")),
        ("absolute/file", Ok("inside")),
        ("lib/../lib/file", Ok("inside")),
        ("../../usr/lib/file", Ok("inside")),
        ("escape", Ok("decoy")),
        ("lib/missing", Err(Errno::ENOENT)),
        ("secret/below", Err(Errno::ENOTDIR)),
        ("loop", Err(Errno::ELOOP)),
    ] {
        let expected = expected.map(str::to_owned);
        assert_eq!(read(by_kernel, path), expected, "openat2 {path}");
        assert_eq!(read(by_hand, path), expected, "walk {path}");
    }
    for open in [by_kernel, by_hand] {
        assert_eq!(open(Path::new("escape"), OFlag::O_RDONLY | OFlag::O_NOFOLLOW).unwrap_err(), Errno::ELOOP);
        assert!(open(Path::new(""), OFlag::O_RDONLY | OFlag::O_DIRECTORY).is_ok());
    }
}

#[test]
fn removes_deep_trees_with_few_descriptors_and_leaves_link_targets() {
    let (outside, root) = tree();
    let mut dir = root.open_dir(Path::new("usr")).unwrap();
    for _ in 0..3000 {
        nix::sys::stat::mkdirat(&dir, "deep", Mode::S_IRWXU).unwrap();
        dir = nix::fcntl::openat(&dir, "deep", OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    }
    symlink(outside.path().join("secret"), outside.path().join("root/usr/link")).unwrap();
    drop(dir);
    root.remove_all(Path::new("usr")).unwrap();
    assert!(root.lstat(Path::new("usr")).unwrap().is_none());
    assert_eq!(fs::read_to_string(outside.path().join("secret")).unwrap(), "outside");
    root.remove_all(Path::new("usr")).unwrap();
    root.remove_contents().unwrap();
    assert_eq!(fs::read_dir(outside.path().join("root")).unwrap().count(), 0);
}

#[test]
fn removes_directories_that_their_owner_closed() {
    let (outside, root) = tree();
    fs::create_dir_all(outside.path().join("root/closed/inner")).unwrap();
    fs::write(outside.path().join("root/closed/inner/file"), "").unwrap();
    fs::set_permissions(outside.path().join("root/closed"), fs::Permissions::from_mode(0o000)).unwrap();
    root.remove_all(Path::new("closed")).unwrap();
    assert!(!outside.path().join("root/closed").exists());

    for mode in [0o555, 0o400, 0o100] {
        fs::create_dir_all(outside.path().join("root/read-only/inner/empty")).unwrap();
        fs::write(outside.path().join("root/read-only/file"), "").unwrap();
        for dir in ["inner/empty", "inner", ""] {
            let dir = outside.path().join("root/read-only").join(dir);
            fs::set_permissions(dir, fs::Permissions::from_mode(mode)).unwrap();
        }
        root.remove_all(Path::new("read-only")).unwrap();
        assert!(!outside.path().join("root/read-only").exists(), "{mode:o}");
    }
}

#[test]
fn names_are_cleaned_as_text_and_never_leave() {
    for (name, clean) in [
        ("a/b", "a/b"),
        ("./a//b/", "a/b"),
        ("/a/./b", "a/b"),
        ("a/../b", "b"),
        ("..gitme", "..gitme"),
        ("./", ""),
        ("", ""),
    ] {
        assert_eq!(clean_name(name.as_bytes()).unwrap(), Path::new(clean), "{name}");
    }
    for name in ["../victim", "/../victim", "a/../../victim", ".."] {
        assert_eq!(clean_name(name.as_bytes()).unwrap_err().kind(), ErrorKind::PathEscape, "{name}");
    }
    assert_eq!(clean_name(b"a\0b").unwrap_err().kind(), ErrorKind::InvalidArchive);
}
