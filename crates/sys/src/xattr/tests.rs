//! Attributes of real files, through every way that the kernel has.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use tempfile::TempDir;

use super::*;
use crate::test_dir;

const NAME: &CStr = c"user.graphdriver";

fn opath(path: &std::path::Path) -> OwnedFd {
    open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()).unwrap()
}

fn dir_with_file() -> (TempDir, File) {
    let dir = test_dir::on_disk();
    fs::write(dir.path().join("file"), b"").unwrap();
    let fd = File::open(dir.path()).unwrap();
    (dir, fd)
}

fn names(names: &Names) -> Vec<&CStr> {
    // A security module may add a label of its own.
    names.iter().filter(|name| !name.to_bytes().starts_with(b"security.")).collect()
}

#[test]
fn all_three_ways_reach_the_same_attribute() {
    let (dir, dirfd) = dir_with_file();
    let file = File::open(dir.path().join("file")).unwrap();
    let path_fd = opath(&dir.path().join("file"));

    fset(&file, NAME, b"one", SetFlags::CREATE).unwrap();
    assert_eq!(get_at(&dirfd, c"file", NAME).unwrap().unwrap(), b"one");
    set_at(&dirfd, "file", NAME, b"two", SetFlags::REPLACE).unwrap();
    assert_eq!(get_opath(&path_fd, NAME).unwrap().unwrap(), b"two");
    set_opath(&path_fd, NAME, b"\0three\0", SetFlags::empty()).unwrap();
    assert_eq!(fget(&file, NAME).unwrap().unwrap(), b"\0three\0");

    for list in [flist(&file), list_at(&dirfd, "file"), list_opath(&path_fd)] {
        assert_eq!(names(&list.unwrap()), [NAME]);
    }

    fremove(&file, NAME).unwrap();
    assert_eq!(remove_at(&dirfd, "file", NAME), Err(Errno::ENODATA));
    assert_eq!(remove_opath(&path_fd, NAME), Err(Errno::ENODATA));
    assert!(names(&flist(&file).unwrap()).is_empty());
}

#[test]
fn absent_and_empty_differ() {
    let (_dir, dirfd) = dir_with_file();
    assert_eq!(get_at(&dirfd, "file", NAME), Ok(None));
    set_at(&dirfd, "file", NAME, b"", SetFlags::empty()).unwrap();
    assert_eq!(get_at(&dirfd, "file", NAME), Ok(Some(Vec::new())));
    assert_eq!(get_at(&dirfd, "absent", NAME), Err(Errno::ENOENT));
}

#[test]
fn flags_are_kept() {
    let (_dir, dirfd) = dir_with_file();
    let set = |flags| set_at(&dirfd, "file", NAME, b"x", flags);
    assert_eq!(set(SetFlags::REPLACE), Err(Errno::ENODATA));
    assert_eq!(set(SetFlags::CREATE), Ok(()));
    assert_eq!(set(SetFlags::CREATE), Err(Errno::EEXIST));
}

#[test]
fn long_values_and_lists_outgrow_the_stack() {
    let (_dir, dirfd) = dir_with_file();
    for length in [STACK_BYTES - 1, STACK_BYTES, STACK_BYTES + 1, 2000] {
        let value = vec![b'v'; length];
        set_at(&dirfd, "file", NAME, &value, SetFlags::empty()).unwrap();
        assert_eq!(get_at(&dirfd, "file", NAME).unwrap().unwrap(), value);
    }
    remove_at(&dirfd, "file", NAME).unwrap();
    let many: Vec<String> = (0..20).map(|n| format!("user.{n:02}-{}", "n".repeat(40))).collect();
    for name in &many {
        set_at(&dirfd, "file", name.as_str(), b"", SetFlags::empty()).unwrap();
    }
    let list = list_at(&dirfd, "file").unwrap();
    let mut found: Vec<_> = names(&list).into_iter().map(|name| name.to_str().unwrap()).collect();
    found.sort_unstable();
    assert_eq!(found, many);
}

#[test]
fn a_value_that_grows_meanwhile_is_read_whole() {
    let mut calls = 0;
    let read = read_all(|buffer| {
        calls += 1;
        let needed = STACK_BYTES + calls;
        match buffer.len() {
            0 => Ok(needed),
            room if room < needed && calls < 6 => Err(Errno::ERANGE),
            room => Ok(room),
        }
    });
    assert_eq!(read.unwrap().len(), STACK_BYTES + 6);
}

#[test]
fn links_are_not_followed() {
    let (dir, dirfd) = dir_with_file();
    set_at(&dirfd, "file", NAME, b"of the file", SetFlags::empty()).unwrap();
    symlink("file", dir.path().join("link")).unwrap();
    let link = opath(&dir.path().join("link"));
    // `user.*` is not for symbolic links, so there is nothing to read and writing is refused.
    for read in [get_at(&dirfd, "link", NAME), get_opath(&link, NAME)] {
        assert!(matches!(read, Ok(None) | Err(Errno::ENOTSUP | Errno::EPERM)), "{read:?}");
    }
    assert!(set_at(&dirfd, "link", NAME, b"x", SetFlags::empty()).is_err());
    assert!(set_opath(&link, NAME, b"x", SetFlags::empty()).is_err());
    assert_eq!(get_at(&dirfd, "file", NAME).unwrap().unwrap(), b"of the file");
}

#[test]
fn only_one_component_is_taken() {
    let (_dir, dirfd) = dir_with_file();
    for name in ["", ".", "..", "/", "/etc", "a/b", "file/"] {
        assert_eq!(get_at(&dirfd, name, NAME), Err(Errno::EINVAL), "{name:?}");
    }
    assert_eq!(get_at(&dirfd, &b"a\0b"[..], NAME), Err(Errno::EINVAL));
    assert_eq!(get_at(&dirfd, "file", &b"user.\0"[..]), Err(Errno::EINVAL));
    assert_eq!(list_at(&dirfd, "x".repeat(256).as_str()), Err(Errno::ENAMETOOLONG));
}

#[test]
fn entry_names_are_bytes() {
    let (dir, dirfd) = dir_with_file();
    for name in [&b"\xff not utf-8"[..], b"new\nline", &[b'x'; 255]] {
        let name = OsStr::from_bytes(name);
        fs::write(dir.path().join(name), b"").unwrap();
        set_at(&dirfd, name, NAME, b"v", SetFlags::empty()).unwrap();
        assert_eq!(get_at(&dirfd, name, NAME).unwrap().unwrap(), b"v");
    }
}

#[test]
fn a_tmpfs_has_attributes_of_users_since_linux_6_6() {
    let dir = test_dir::on_tmpfs();
    fs::write(dir.path().join("file"), b"").unwrap();
    let dirfd = File::open(dir.path()).unwrap();
    match set_at(&dirfd, "file", NAME, b"v", SetFlags::empty()) {
        Ok(()) => assert_eq!(get_at(&dirfd, "file", NAME).unwrap().unwrap(), b"v"),
        refused => {
            assert_eq!(refused, Err(Errno::EOPNOTSUPP));
            assert!(!test_dir::kernel_is_at_least(6, 6));
            assert_eq!(get_at(&dirfd, "file", NAME), Err(Errno::EOPNOTSUPP));
            assert!(names(&list_at(&dirfd, "file").unwrap()).is_empty());
        }
    }
}

#[test]
fn a_plain_call_needs_an_open_file() {
    let (dir, _) = dir_with_file();
    let path_fd = opath(&dir.path().join("file"));
    assert_eq!(fget(&path_fd, NAME), Err(Errno::EBADF));
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn trusted_attributes_of_symlinks_and_devices() {
    let dir = test_dir::on_tmpfs();
    symlink("absent", dir.path().join("link")).unwrap();
    let dirfd = File::open(dir.path()).unwrap();
    let link = opath(&dir.path().join("link"));
    set_at(&dirfd, "link", c"trusted.one", b"1", SetFlags::empty()).unwrap();
    set_opath(&link, c"trusted.two", b"2", SetFlags::empty()).unwrap();
    assert_eq!(get_opath(&link, c"trusted.one").unwrap().unwrap(), b"1");
    assert_eq!(get_at(&dirfd, "link", c"trusted.two").unwrap().unwrap(), b"2");
    remove_opath(&link, c"trusted.one").unwrap();
    assert_eq!(names(&list_at(&dirfd, "link").unwrap()), [c"trusted.two"]);
}
