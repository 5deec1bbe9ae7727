//! What the kernel says about real mounts, each test in a mount namespace of its thread.

#![allow(clippy::unwrap_used, reason = "a test helper that fails fails the test")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use graphdriver_core::{
    ErrorKind, FsMagic, FsMagicChecker, MountChecker, MountInfoChecker, TempDirs, make_private, mount_info,
    unmount_lazily,
};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

fn mount_with(source: &Path, target: &Path, fs_type: Option<&str>, flags: MsFlags) {
    mount(Some(source), target, fs_type, flags, None::<&str>).unwrap();
}

fn mount_tmpfs(target: &Path) {
    mount_with(Path::new("some name"), target, Some("tmpfs"), MsFlags::empty());
}

/// A directory in a mount namespace where mounts spread as they do on most machines: shared.
fn place() -> (tempfile::TempDir, PathBuf) {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    for flags in [MsFlags::MS_PRIVATE, MsFlags::MS_SHARED] {
        mount(None::<&str>, "/", None::<&str>, flags | MsFlags::MS_REC, None::<&str>).unwrap();
    }
    let temp = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = temp.path().to_owned();
    (temp, path)
}

#[test]
#[ignore = "needs root"]
fn odd_names_are_found_in_the_table() {
    let (_temp, path) = place();
    for name in ["a b", "tab\there", "line\nbreak", "back\\slash", "\\040", "#hash", "a:b,c=d", "é"] {
        let target = path.join(name);
        fs::create_dir(&target).unwrap();
        assert!(!MountInfoChecker.is_mounted(&target).unwrap(), "{name:?}");
        mount_tmpfs(&target);
        assert!(MountInfoChecker.is_mounted(&target).unwrap(), "{name:?}");
        let below = mount_info::mounts_below(&path).unwrap();
        let [entry] = &*below else { panic!("{below:?}") };
        assert_eq!(entry.mount_point, target);
        assert_eq!((&*entry.fs_type, &*entry.source), ("tmpfs".as_ref(), "some name".as_ref()));
        unmount_lazily(&target).unwrap();
        assert!(!MountInfoChecker.is_mounted(&target).unwrap(), "{name:?}");
        unmount_lazily(&target).unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn a_bind_mount_of_the_same_file_system_is_mounted_but_of_no_other_type() {
    let (_temp, path) = place();
    let target = path.join("merged");
    fs::create_dir(&target).unwrap();
    mount_with(&path, &target, None, MsFlags::MS_BIND);
    assert!(MountInfoChecker.is_mounted(&target).unwrap());
    assert!(!FsMagicChecker::new([FsMagic::OVERLAY]).is_mounted(&target).unwrap());
    let own = graphdriver_core::fs_magic(&path).unwrap();
    assert!(FsMagicChecker::new([own]).is_mounted(&target).unwrap());
    assert!(!FsMagicChecker::new([own]).is_mounted(&path).unwrap());
    unmount_lazily(&target).unwrap();
}

#[test]
#[ignore = "needs root"]
fn a_home_is_made_private_once() {
    let (_temp, path) = place();
    let is_shared = || {
        let mounts = mount_info::mounts().unwrap();
        mounts.iter().rfind(|mount| path.starts_with(&mount.mount_point)).unwrap().is_shared()
    };
    assert!(is_shared());
    assert!(make_private(&path).unwrap(), "it was bound");
    assert!(!is_shared());
    assert!(!make_private(&path).unwrap(), "it is a mount point now");
    unmount_lazily(&path).unwrap();
    assert!(is_shared());
}

#[test]
#[ignore = "needs root"]
fn what_is_mounted_in_a_temporary_directory_is_not_deleted() {
    let (_temp, path) = place();
    let temp_dirs = TempDirs::open(&path).unwrap();
    let dir = temp_dirs.create().unwrap();
    let (data, target) = (path.join("data"), dir.path().join("mounted"));
    for dir in [&data, &target] {
        fs::create_dir(dir).unwrap();
    }
    File::create(data.join("file")).unwrap();
    mount_with(&data, &target, None, MsFlags::MS_BIND);
    let error = dir.delete().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.report().to_string().contains("busy"), "{}", error.report());
    assert!(data.join("file").exists());
    assert!(temp_dirs.recover().is_err());
    unmount_lazily(&target).unwrap();
    TempDirs::open(&path).unwrap();
    assert_eq!(fs::read_dir(path.join("tempdirs")).unwrap().count(), 0);
    assert!(data.join("file").exists());
}

#[test]
#[ignore = "needs root"]
fn a_read_only_home_opens_and_says_why_it_cannot_change() {
    for has_directory in [true, false] {
        let (_temp, home) = place();
        mount_tmpfs(&home);
        if has_directory {
            drop(TempDirs::open(&home).unwrap().create().unwrap());
        }
        let remount =
            |flags| mount(None::<&str>, &home, None::<&str>, flags | MsFlags::MS_REMOUNT, None::<&str>);
        remount(MsFlags::MS_RDONLY).unwrap();
        let temp_dirs = TempDirs::open(&home).unwrap();
        temp_dirs.recover().unwrap();
        let error = temp_dirs.create().unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::PermissionDenied, Some(Errno::EROFS)));
        remount(MsFlags::empty()).unwrap();
        drop(temp_dirs.create().unwrap());
        assert_eq!(fs::read_dir(home.join("tempdirs")).unwrap().count(), 0);
        unmount_lazily(&home).unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn what_lies_in_a_home_that_was_mounted_on_itself_is_taken_in() {
    let (_temp, home) = place();
    let dir = TempDirs::open(&home).unwrap().create().unwrap();
    fs::create_dir(home.join("layer")).unwrap();
    assert!(make_private(&home).unwrap(), "as another program does it");
    assert!(dir.take_in(&home.join("layer")).unwrap().is_dir());
    dir.delete().unwrap();
    unmount_lazily(&home).unwrap();
    assert_eq!(fs::read_dir(&home).unwrap().count(), 1);
}
