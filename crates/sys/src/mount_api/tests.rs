//! On the running kernel, in a mount namespace of the test's own thread.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;

use nix::fcntl::{AT_FDCWD, OFlag};
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;

use super::*;
use crate::capability::{self, Capability};
use crate::mount_point::is_mount_point;
use crate::test_dir;

/// Runs `test` in a thread that has its own mount namespace, from which nothing spreads.
fn in_private_namespace(test: impl FnOnce(&Path) + Send) {
    let dir = test_dir::on_tmpfs();
    thread::scope(|scope| {
        let body = || {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let none = None::<&str>;
            nix::mount::mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            test(dir.path());
        };
        if let Err(failure) = scope.spawn(body).join() {
            std::panic::resume_unwind(failure);
        }
    });
}

fn tmpfs() -> OwnedFd {
    let context = FsContext::open(c"tmpfs").unwrap();
    context.set_string(c"size", "1m").unwrap();
    context.create().unwrap();
    context.mount(MountAttrFlags::empty()).unwrap()
}

fn open_dir(path: &Path) -> File {
    File::open(path).unwrap()
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn a_tmpfs_is_made_and_attached() {
    in_private_namespace(|dir| {
        let before = fs::metadata(dir).unwrap().dev();
        let context = FsContext::open("tmpfs").unwrap();
        context.set_string(c"size", "64k").unwrap();
        context.set_string(c"mode", "0700").unwrap();
        context.create().unwrap();
        let mount = context.mount(MountAttrFlags::NODEV | MountAttrFlags::NOATIME).unwrap();
        move_mount(&mount, open_dir(dir), "").unwrap();
        assert_ne!(fs::metadata(dir).unwrap().dev(), before);
        assert_eq!(fs::metadata(dir).unwrap().mode() & 0o7777, 0o700);
        assert!(is_mount_point(AT_FDCWD, dir).unwrap());
        assert!(fs::write(dir.join("file"), vec![0; 128 * 1024]).is_err(), "larger than the file system");
        umount2(dir, MntFlags::MNT_DETACH).unwrap();
        assert_eq!(fs::metadata(dir).unwrap().dev(), before);
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn a_path_below_a_directory_is_a_target_too() {
    in_private_namespace(|dir| {
        fs::create_dir(dir.join("a:b,c\nd")).unwrap();
        let parent = open_dir(dir);
        move_mount(tmpfs(), &parent, "a:b,c\nd").unwrap();
        assert!(is_mount_point(&parent, "a:b,c\nd").unwrap());
        assert_eq!(move_mount(tmpfs(), &parent, "absent"), Err(Errno::ENOENT));
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn the_kernel_says_what_it_does_not_know() {
    let context = FsContext::open(c"tmpfs").unwrap();
    let error = context.set_string(c"bogus", "value").unwrap_err();
    assert_eq!(error.errno, Errno::EINVAL);
    assert!(error.messages.iter().any(|message| message.contains("bogus")), "{error:?}");
    assert!(error.to_string().contains("bogus"), "{error}");
    assert!(context.messages().is_empty(), "messages are given once");
    assert_eq!(FsContext::open(c"no-such-fs").unwrap_err().errno, Errno::ENODEV);
    assert_eq!(context.set_string(c"source", &b"a\0b"[..]).unwrap_err().errno, Errno::EINVAL);
}

/// Before Linux 6.5 overlay's options are collected for it as one string, which it reads at the end.
fn overlay_reads_each_option() -> bool {
    let reads = FsContext::open(c"overlay").unwrap().set_string(c"bogus", "value").is_err();
    assert!(reads || !test_dir::kernel_is_at_least(6, 5));
    reads
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn options_of_overlay_are_refused_at_once_or_in_the_end() {
    let context = FsContext::open(c"overlay").unwrap();
    let set = context.set_string(c"bogus", "value");
    let error = if overlay_reads_each_option() {
        set.unwrap_err()
    } else {
        set.unwrap();
        context.create().unwrap_err()
    };
    assert_eq!(error.errno, Errno::EINVAL, "{error}");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn a_string_over_255_bytes_is_refused() {
    let context = FsContext::open(c"tmpfs").unwrap();
    let source = |length| context.set_string(c"source", "s".repeat(length).as_str());
    assert_eq!(source(256).unwrap_err().errno, Errno::EINVAL);
    source(255).unwrap();
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn an_overlay_takes_strange_paths() {
    in_private_namespace(|dir| {
        let names = ["lower:one", "lower,\\two", "upper\\", "work\n", "merged"];
        let [one, two, upper, work, merged] = names.map(|name| dir.join(name));
        for path in [&one, &two, &upper, &work, &merged] {
            fs::create_dir(path).unwrap();
        }
        fs::write(one.join("from-one"), b"1").unwrap();
        fs::write(two.join("from-two"), b"2").unwrap();
        let context = FsContext::open(c"overlay").unwrap();
        // `lowerdir+` is taken as it is; upperdir and workdir lose one level of backslashes.
        let each_lower =
            context.set_string(c"lowerdir+", &two).and_then(|()| context.set_string(c"lowerdir+", &one));
        if let Err(error) = &each_lower {
            assert!(!test_dir::kernel_is_at_least(6, 7), "{error}");
            assert_eq!(error.errno, Errno::EINVAL, "{error}");
            let because_of = if overlay_reads_each_option() { "lowerdir+" } else { "contained comma" };
            assert!(error.to_string().contains(because_of), "{error}");
            context.set_string(c"lowerdir", one.to_str().unwrap().replace(':', "\\:").as_str()).unwrap();
        }
        let escaped = upper.to_str().unwrap().replace('\\', "\\\\");
        context.set_string(c"upperdir", escaped.as_str()).unwrap();
        context.set_string(c"workdir", &work).unwrap();
        context.create().unwrap();
        let mount = context.mount(MountAttrFlags::empty()).unwrap();
        move_mount(&mount, open_dir(&merged), c"").unwrap();
        assert_eq!(fs::read(merged.join("from-one")).unwrap(), b"1");
        assert_eq!(merged.join("from-two").exists(), each_lower.is_ok());
        fs::write(merged.join("new"), b"3").unwrap();
        assert_eq!(fs::read(upper.join("new")).unwrap(), b"3");
    });
}

/// Not every kernel takes descriptors here: either the layer is there, or the reason is given.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn overlay_layers_by_descriptor() {
    in_private_namespace(|dir| {
        let [one, two] = ["one", "two"].map(|name| dir.join(name));
        for path in [&one, &two] {
            fs::create_dir(path).unwrap();
            fs::write(path.join(path.file_name().unwrap()), b"").unwrap();
        }
        for flags in [OFlag::O_RDONLY, OFlag::O_PATH] {
            let context = FsContext::open(c"overlay").unwrap();
            let set = [&one, &two].map(|path| {
                let fd = nix::fcntl::open(path, flags | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
                context.set_fd(c"lowerdir+", &fd)
            });
            if let [Err(error), _] = set {
                let refused: &[Errno] = if overlay_reads_each_option() {
                    &[Errno::EINVAL, Errno::EBADF]
                } else {
                    &[Errno::EOPNOTSUPP]
                };
                assert!(refused.contains(&error.errno), "{flags:?}: {error}");
                eprintln!("layers by {flags:?} descriptor: {error}");
                continue;
            }
            context.create().unwrap();
            let mount = context.mount(MountAttrFlags::empty()).unwrap();
            assert_eq!(statx_ino(&mount, "one"), fs::metadata(one.join("one")).unwrap().ino());
            assert_eq!(statx_ino(&mount, "two"), fs::metadata(two.join("two")).unwrap().ino());
        }
    });
}

fn statx_ino(dir: impl AsFd, path: &str) -> u64 {
    crate::statx(dir, path, nix::fcntl::AtFlags::empty(), crate::StatxMask::INO).unwrap().ino
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn a_copy_of_a_mount_is_changed_and_attached() {
    in_private_namespace(|dir| {
        let [source, target] = ["source", "target"].map(|name| dir.join(name));
        fs::create_dir(&source).unwrap();
        fs::create_dir(&target).unwrap();
        fs::write(source.join("file"), b"x").unwrap();
        let copy = open_tree(AT_FDCWD, &source, OpenTreeFlags::CLONE | OpenTreeFlags::RECURSIVE).unwrap();
        let attributes = MountAttr {
            set: MountAttrFlags::RDONLY | MountAttrFlags::NOATIME,
            clear: MountAttrFlags::ATIME_MASK,
            propagation: Some(Propagation::Private),
            userns: None,
        };
        mount_setattr(&copy, "", SetAttrFlags::EMPTY_PATH | SetAttrFlags::RECURSIVE, &attributes).unwrap();
        move_mount(&copy, open_dir(&target), "").unwrap();
        assert_eq!(fs::read(target.join("file")).unwrap(), b"x");
        let error = fs::write(target.join("file"), b"y").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EROFS));
        fs::write(source.join("file"), b"y").unwrap();
        // On one device, so that only the mounts tell them apart.
        assert_eq!(fs::metadata(&source).unwrap().dev(), fs::metadata(&target).unwrap().dev());
        assert!(is_mount_point(open_dir(dir), "target").unwrap());
        assert!(!is_mount_point(open_dir(dir), "source").unwrap());
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn order_is_kept() {
    let context = FsContext::open(c"tmpfs").unwrap();
    assert_eq!(context.mount(MountAttrFlags::empty()).unwrap_err().errno, Errno::EINVAL);
    context.set_flag(c"ro").unwrap();
    context.create().unwrap();
    assert_eq!(context.create().unwrap_err().errno, Errno::EBUSY);
    let mount = context.mount(MountAttrFlags::empty()).unwrap();
    let made = nix::sys::stat::mkdirat(&mount, "directory", Mode::S_IRWXU);
    assert_eq!(made, Err(Errno::EROFS));
}

/// The capability is necessary, not sufficient: it may be held over a user namespace that owns no mounts.
#[test]
fn without_privilege_the_error_says_so() {
    let privileged = capability::has_effective(Capability::SysAdmin).unwrap();
    match FsContext::open(c"tmpfs") {
        Ok(_) => assert!(privileged),
        Err(error) => assert!(matches!(error.errno, Errno::EPERM | Errno::ENOSYS), "{error}"),
    }
}
