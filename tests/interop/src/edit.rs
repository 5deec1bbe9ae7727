//! What is done to a layer on top of [`PARENTS`], through its mount, before its changes are taken out.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use graphdriver_sys::xattr::{self, SetFlags};
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, makedev, mknod, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::mkfifo;

/// The layers below: a Debian root file system, and files with attributes, several names, odd names.
pub(crate) const PARENTS: [&str; 2] = ["base", "meta"];

/// Edits the tree at `root` in every way.
pub(crate) fn edit(root: &Path) {
    directories_for_files(root);
    edit_but_keep_files(root);
}

/// Edits in every way but one: containers/storage cannot list the changes of a layer in which a directory took the place of a file.
pub(crate) fn edit_but_keep_files(root: &Path) {
    contents(root);
    modes_and_owners(root);
    removals(root);
    replacements(root);
    links(root);
    attributes(root);
    special_files(root);
    names(root);
    times(root);
}

fn contents(root: &Path) {
    append(&root.join("etc/passwd"), b"user:x:1000:1000::/home/user:/bin/sh\n");
    fs::write(root.join("etc/debian_version"), "edited\n").unwrap();
    // Same size, and the time put back: only the change time tells.
    let version = root.join("usr/lib/os-release");
    let before = version.metadata().unwrap();
    OpenOptions::new().write(true).open(&version).unwrap().write_all_at(b"p", 0).unwrap();
    set_mtime(&version, before.mtime(), before.mtime_nsec());
    fs::write(root.join("etc/group-"), "").unwrap();
    for (name, length) in [("empty", 0), ("block", 512), ("record", 10_240), ("large", 3_000_001)] {
        let bytes: Vec<u8> = (0..length).map(|at: u32| (at.wrapping_mul(0x9E37_79B9) >> 24) as u8).collect();
        fs::write(make_dir(root, "srv/sizes").join(name), bytes).unwrap();
    }
    let sparse = File::create(root.join("srv/sparse")).unwrap();
    sparse.set_len(32 << 20).unwrap();
    sparse.write_all_at(b"in the middle", 20_000_000).unwrap();
    // A hole below, now with data in it.
    OpenOptions::new()
        .write(true)
        .open(root.join("m/sparse"))
        .unwrap()
        .write_all_at(b"here", 1 << 20)
        .unwrap();
}

fn modes_and_owners(root: &Path) {
    set_mode(&root.join("etc/shells"), 0o600);
    set_mode(&root.join("home"), 0o1777);
    set_mode(&root.join("m/none"), 0o750);
    set_mode(&root.join("usr/bin/env"), 0o6755);
    // Taking the owner away clears set-id bits and capabilities.
    chown(root.join("m/setuid"), Some(1000), Some(1000)).unwrap();
    chown(root.join("m/cap"), Some(1000), None).unwrap();
    chown(root.join("var/mail"), Some(0), Some(4_000_000_000)).unwrap();
    lchown(root.join("m/self"), Some(7), Some(8)).unwrap();
}

fn removals(root: &Path) {
    fs::remove_file(root.join("usr/bin/sort")).unwrap();
    fs::remove_file(root.join("lib")).unwrap();
    fs::remove_file(root.join("m/fifo")).unwrap();
    remove_tree(&root.join("usr/share/doc"));
    fs::remove_dir(root.join("m/sticky")).unwrap();
    // Made and gone again: no trace.
    fs::remove_file(make_file(root, "srv/short-lived")).unwrap();
    // Everything in it gone, itself still there.
    for entry in fs::read_dir(root.join("etc/cron.daily")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
}

fn replacements(root: &Path) {
    // A directory by a file, a symbolic link, and a directory of the same name with other things in it.
    remove_tree(&root.join("etc/apt"));
    make_file(root, "etc/apt");
    remove_tree(&root.join("etc/security"));
    symlink("default", root.join("etc/security")).unwrap();
    remove_tree(&root.join("etc/pam.d"));
    make_file(root, "etc/pam.d/other");
    make_file(root, "etc/pam.d/below/new");
    // A file by a link and a device, a device by a file.
    fs::remove_file(root.join("etc/issue.net")).unwrap();
    symlink("issue/now", root.join("etc/issue.net")).unwrap();
    fs::remove_file(root.join("etc/fstab")).unwrap();
    make_device(&root.join("etc/fstab"), SFlag::S_IFCHR, 1, 5);
    fs::remove_file(root.join("m/c13")).unwrap();
    make_file(root, "m/c13");
    // By the new file that another one is renamed to.
    fs::rename(make_file(root, "etc/profile.new"), root.join("etc/profile")).unwrap();
    fs::rename(root.join("etc/rmt"), root.join("etc/rmt.moved")).unwrap();
}

fn directories_for_files(root: &Path) {
    fs::remove_file(root.join("etc/issue")).unwrap();
    make_file(root, "etc/issue/now/a/directory");
    fs::remove_file(root.join("lib64")).unwrap();
    make_file(root, "lib64/file");
    fs::remove_file(root.join("m/b70")).unwrap();
    make_dir(root, "m/b70");
}

fn links(root: &Path) {
    let first = make_file(root, "srv/links/first");
    for name in ["second", "third"] {
        fs::hard_link(&first, root.join("srv/links").join(name)).unwrap();
    }
    // In another directory, whose name sorts before that of the first.
    fs::hard_link(&first, make_dir(root, "srv/a").join("fourth")).unwrap();
    // A new name for a file of a layer below.
    fs::hard_link(root.join("usr/bin/tail"), root.join("usr/bin/tail.link")).unwrap();
    // One of two names goes.
    fs::remove_file(root.join("m/dangling-hard")).unwrap();
    let links = root.join("srv/symlinks");
    fs::create_dir(&links).unwrap();
    symlink("/nowhere", links.join("dangling")).unwrap();
    symlink("../../../../..", links.join("upwards")).unwrap();
    symlink("x".repeat(300), links.join("long")).unwrap();
    symlink(OsStr::from_bytes(b"\xff\n"), links.join("odd")).unwrap();
    fs::hard_link(links.join("dangling"), links.join("dangling-link")).unwrap();
}

fn attributes(root: &Path) {
    set_xattr(root, "m/xattr-hard", "user.foo", b"other");
    set_xattr(root, "etc/host.conf", "user.new", b"");
    set_xattr(root, "etc/skel", "user.of.directory", b"\0\xff binary\n=");
    set_xattr(root, "etc/skel", "trusted.of.directory", &[7; 1000]);
    set_xattr(root, "etc/login.defs", "user.na me=\u{fc}", b"value");
    // CAP_NET_BIND_SERVICE, effective and permitted: `struct vfs_cap_data` of `linux/capability.h`, version 2.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set_xattr(root, "usr/bin/cat", "security.capability", &capability);
    let (dir, name) = parent(&root.join("m/xattr"));
    xattr::remove_at(dir, name.as_os_str(), "user.bin").unwrap();
    make_dir(root, "srv/acl");
    set_xattr(root, "srv/acl", "system.posix_acl_default", &acl(0o7, 0o5));
    make_file(root, "srv/acl/inherits/too");
    mkfifo(&root.join("srv/acl/fifo"), Mode::from_bits_truncate(0o666)).unwrap();
    symlink("fifo", root.join("srv/acl/symlink")).unwrap();
    set_xattr(root, "etc/bash.bashrc", "system.posix_acl_access", &acl(0o6, 0o4));
}

fn special_files(root: &Path) {
    mkfifo(&root.join("srv/fifo"), Mode::from_bits_truncate(0o640)).unwrap();
    make_device(&root.join("srv/char"), SFlag::S_IFCHR, 10, 229);
    make_device(&root.join("srv/block"), SFlag::S_IFBLK, 259, 1_000_000);
}

fn names(root: &Path) {
    let dir = make_dir(root, "srv/names");
    let odd: [&[u8]; 12] = [
        b"new\nline",
        b"\xff\xfe not UTF-8",
        "\u{fc}n\u{ef}code".as_bytes(),
        b" space ",
        b"back\\slash\\",
        b"co:lon,com,ma=equals",
        b"-dash",
        b"*?[glob]",
        b"'quote\"",
        b"wh.file",
        b"..dots..",
        b"\x01\x7f",
    ];
    for name in odd {
        fs::write(dir.join(OsStr::from_bytes(name)), name).unwrap();
        fs::create_dir(dir.join(OsStr::from_bytes(&[b"d".as_slice(), name].concat()))).unwrap();
    }
    fs::write(dir.join("n".repeat(255)), "long").unwrap();
    // Lengths around what the fields of a header hold: 100 bytes, and 155 more.
    for length in [99, 100, 101, 154, 155, 156, 255] {
        let deep = dir.join("p".repeat(length - 1)).join("file");
        fs::create_dir(deep.parent().unwrap()).unwrap();
        fs::write(deep, length.to_string()).unwrap();
    }
    let deepest = (0..20).fold(dir, |path: PathBuf, depth| path.join(format!("{depth:0100}")));
    fs::create_dir_all(&deepest).unwrap();
    fs::write(deepest.join("leaf"), "deep").unwrap();
    // Deleted ones have names as odd.
    for name in [b"new\nline".as_slice(), b"\xff\xfe-notutf8", b"co:lon,comma\\back"] {
        fs::remove_file(root.join("m").join(OsStr::from_bytes(name))).unwrap();
    }
}

/// Last, since everything else changes them.
fn times(root: &Path) {
    for (name, seconds, nanoseconds) in [
        ("nanoseconds", 1_700_000_000, 123_456_789),
        ("late", 1 << 32, 0),
        ("epoch", 0, 0),
        ("early", -86_400, 0),
        ("early-fraction", -2, 500_000_000),
    ] {
        set_mtime(&make_file(root, &format!("srv/times/{name}")), seconds, nanoseconds);
    }
    set_mtime(&root.join("m/deep"), 1_600_000_000, 1);
    set_mtime(&root.join("bin"), 1_500_000_000, 999_999_999);
    set_mtime(&root.join("srv/times"), 1_700_000_001, 0);
}

/// A file, and the directories that lead to it, with some text that is its path.
fn make_file(root: &Path, path: &str) -> PathBuf {
    let file = root.join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, path).unwrap();
    file
}

fn make_dir(root: &Path, path: &str) -> PathBuf {
    let dir = root.join(path);
    fs::create_dir_all(&dir).unwrap();
    dir
}

fn make_device(path: &Path, kind: SFlag, major: u64, minor: u64) {
    mknod(path, kind, Mode::from_bits_truncate(0o660), makedev(major, minor)).unwrap();
}

fn append(path: &Path, bytes: &[u8]) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn set_mtime(path: &Path, seconds: i64, nanoseconds: i64) {
    let (now, then) = (TimeSpec::UTIME_NOW, TimeSpec::new(seconds, nanoseconds));
    utimensat(AT_FDCWD, path, &now, &then, UtimensatFlags::NoFollowSymlink).unwrap();
}

fn set_xattr(root: &Path, path: &str, name: &str, value: &[u8]) {
    let (dir, file) = parent(&root.join(path));
    xattr::set_at(dir, file.as_os_str(), name, value, SetFlags::empty()).unwrap();
}

fn parent(path: &Path) -> (File, PathBuf) {
    (File::open(path.parent().unwrap()).unwrap(), path.file_name().unwrap().into())
}

/// Deletes a directory without crossing into a mount, as `rm` does, file by file through the mounted layer.
pub(crate) fn remove_tree(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            remove_tree(&entry.path());
        } else {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    fs::remove_dir(dir).unwrap();
}

/// `user::rw-,user:1234:<user>,group::<group>,mask::rwx,other::r--` as `linux/posix_acl_xattr.h` has it.
fn acl(user: u16, group: u16) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let entries = [
        (0x01, 0o6, NOBODY),
        (0x02, user, 1234),
        (0x04, group, NOBODY),
        (0x10, 0o7, NOBODY),
        (0x20, 0o4, NOBODY),
    ];
    let mut value = vec![2, 0, 0, 0];
    for (tag, permissions, id) in entries {
        let (tag, permissions): (u16, u16) = (tag, permissions);
        value.extend(tag.to_le_bytes().into_iter().chain(permissions.to_le_bytes()).chain(id.to_le_bytes()));
    }
    value
}
