//! Owners, modes, times and extended attributes.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};

use graphdriver_archive::{ApplyOptions, ErrorKind, IdMap, IdMaps, WhiteoutMode, apply};
use graphdriver_sys::xattr::{SetFlags, fset};
use nix::unistd::geteuid;

use super::support::{Archive, Dest, TIME, xattr};

fn mode(dest: &Dest, path: &str) -> u32 {
    dest.stat(path).permissions().mode() & 0o7777
}

fn with_mode(typeflag: u8, name: &str, mode: u32) -> tar::Header {
    let mut header = Archive::header(typeflag, name);
    header.set_mode(mode);
    header
}

fn owned(typeflag: u8, name: &str, uid: u64, gid: u64) -> tar::Header {
    let mut header = Archive::header(typeflag, name);
    header.set_uid(uid);
    header.set_gid(gid);
    header
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    let dest = Dest::new();
    let modes = [0o777, 0o666, 0o000, 0o4755, 0o2711, 0o1777, 0o400];
    let mut archive = Archive::new();
    for mode in modes {
        archive = archive.push(with_mode(b'0', &format!("file-{mode:o}"), mode), "content");
        archive = archive.push(with_mode(b'5', &format!("dir-{mode:o}/"), mode), "");
        archive = archive.file(&format!("dir-{mode:o}/inside"), "");
    }
    let archive = archive.push(with_mode(b'6', "fifo", 0o622), "").bytes();
    // Not through the helper, which reads files.
    apply(&dest.root(), &mut &archive[..], &ApplyOptions::default()).unwrap();
    for expected in modes {
        assert_eq!(mode(&dest, &format!("file-{expected:o}")), expected);
        let dir = format!("dir-{expected:o}");
        assert_eq!(mode(&dest, &dir), expected);
        fs::set_permissions(dest.path(&dir), Permissions::from_mode(0o700)).unwrap();
        assert!(dest.path(&dir).join("inside").exists());
    }
    assert_eq!(mode(&dest, "fifo"), 0o622);
    assert!(dest.stat("fifo").file_type().is_fifo());
}

#[test]
fn times_are_kept_to_the_nanosecond_in_any_year() {
    let dest = Dest::new();
    let times: [(&str, &[u8], (i64, i64)); 4] = [
        ("now", b"1704164645.123456789", (1_704_164_645, 123_456_789)),
        ("before-1970", b"-1.5", (-2, 500_000_000)),
        ("after-2038", b"4102444800.000000001", (4_102_444_800, 1)),
        ("whole", b"5", (5, 0)),
    ];
    let mut archive = Archive::new();
    for (name, time, _) in times {
        let records = [("mtime", time)];
        archive = archive.pax(b'x', &records).file(name, "1");
        archive = archive.pax(b'x', &records).dir(&format!("dir-{name}/")).file(&format!("dir-{name}/x"), "");
        archive = archive.pax(b'x', &records).symlink(&format!("link-{name}"), "x");
    }
    dest.apply(&archive).unwrap();
    for (name, _, expected) in times {
        for path in [name.to_owned(), format!("dir-{name}"), format!("link-{name}")] {
            let stat = dest.stat(&path);
            assert_eq!((stat.mtime(), stat.mtime_nsec()), expected, "{path}");
        }
    }
}

#[test]
fn access_is_never_before_modification() {
    let dest = Dest::new();
    let archive = Archive::new()
        .pax(b'x', &[("atime", b"100")])
        .file("old", "1")
        .pax(b'x', &[("atime", b"1704164700.5")])
        .file("new", "1");
    // Not through the helper, which reads files.
    apply(&dest.root(), &mut &archive.bytes()[..], &ApplyOptions::default()).unwrap();
    assert_eq!(dest.stat("old").atime(), i64::try_from(TIME).unwrap());
    assert_eq!((dest.stat("new").atime(), dest.stat("new").atime_nsec()), (1_704_164_700, 500_000_000));
}

#[test]
fn directories_get_their_times_last() {
    let dest = Dest::new();
    let mut archive = Archive::new().push(with_mode(b'5', "./", 0o751), "");
    for dir in ["a/", "a/b/", "c/"] {
        archive = archive.dir(dir);
    }
    let archive = archive
        .file("a/b/x", "")
        .file("a/.wh.b", "")
        .file("c/x", "")
        .link("a/later", "c/target")
        .file("c/target", "")
        .dir("gone/")
        .symlink("gone", "c")
        .dir("back/")
        .file("back", "")
        .dir("back/");
    dest.apply(&archive).unwrap();
    for path in ["", "a", "c", "back"] {
        assert_eq!(dest.stat(path).mtime(), i64::try_from(TIME).unwrap(), "{path:?}");
    }
    assert_eq!(mode(&dest, ""), 0o751);
    assert!(dest.stat("gone").is_symlink());
}

#[test]
fn the_roots_entry_counts_in_every_mode() {
    for mode_of_whiteouts in [
        WhiteoutMode::Execute,
        WhiteoutMode::Aufs,
        WhiteoutMode::Overlay(graphdriver_archive::whiteout::OverlayXattrs::User),
    ] {
        for name in ["./", ".", "/"] {
            let dest = Dest::new();
            dest.apply_as(&Archive::new().push(with_mode(b'5', name, 0o1711), ""), mode_of_whiteouts)
                .unwrap();
            assert_eq!(mode(&dest, ""), 0o1711);
        }
    }
}

#[test]
#[ignore = "needs root"]
fn owners_survive_with_set_id_bits_and_capabilities() {
    let dest = Dest::new();
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let mut header = owned(b'0', "ping", 3, 4);
    header.set_mode(0o6755);
    let archive = Archive::new()
        .pax(
            b'x',
            &[("SCHILY.xattr.security.capability", capability), ("SCHILY.xattr.user.test", b"\xff\n\0")],
        )
        .push(header, "program")
        .push(owned(b'5', "dir/", 4_000_000, 5), "")
        .push(owned(b'6', "fifo", 6, 7), "")
        .push(Archive::header(b'0', "root"), "")
        .pax(b'x', &[("uid", b"4294967294")])
        .symlink("symlink", "x");
    dest.apply(&archive).unwrap();
    assert_eq!((dest.stat("ping").uid(), dest.stat("ping").gid(), mode(&dest, "ping")), (3, 4, 0o6755));
    assert_eq!(xattr(&dest.path("ping"), "security.capability").as_deref(), Some(&capability[..]));
    assert_eq!(xattr(&dest.path("ping"), "user.test").as_deref(), Some(&b"\xff\n\0"[..]));
    assert_eq!((dest.stat("dir").uid(), dest.stat("fifo").gid()), (4_000_000, 7));
    assert_eq!((dest.stat("root").uid(), dest.stat("symlink").uid()), (0, u32::MAX - 1));
}

#[test]
#[ignore = "needs root"]
fn a_set_group_id_directory_does_not_leak_its_group() {
    let dest = Dest::new();
    let mut header = owned(b'5', "dir/", 0, 50);
    header.set_mode(0o2775);
    dest.apply(
        &Archive::new().push(header, "").file("dir/file", "").dir("dir/sub/").symlink("dir/link", "x"),
    )
    .unwrap();
    for path in ["dir/file", "dir/sub", "dir/link"] {
        assert_eq!(dest.stat(path).gid(), 0, "{path}");
    }
    assert_eq!(mode(&dest, "dir/sub"), 0o755);
}

#[test]
#[ignore = "needs root"]
fn a_default_acl_is_not_inherited() {
    let entry = |tag: u16, permissions: u16, id: u32| {
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let none = u32::MAX;
    let acl = [
        2_u32.to_le_bytes().to_vec(),
        entry(0x01, 7, none),
        entry(0x02, 7, 1000),
        entry(0x04, 5, none),
        entry(0x10, 7, none),
        entry(0x20, 0, none),
    ]
    .concat();
    let dest = Dest::new();
    let dir = fs::File::open(dest.path("")).unwrap();
    fset(&dir, "system.posix_acl_default", &acl, SetFlags::empty()).unwrap();
    let archive = Archive::new()
        .file("file", "")
        .dir("sub/")
        .file("sub/file", "")
        .pax(b'x', &[("SCHILY.xattr.system.posix_acl_default", &acl)])
        .dir("own/")
        .file("own/file", "")
        .push(with_mode(b'6', "fifo", 0o644), "");
    dest.apply(&archive).unwrap();
    for (path, expected) in
        [("file", 0o644), ("sub", 0o755), ("sub/file", 0o644), ("own/file", 0o644), ("fifo", 0o644)]
    {
        assert_eq!(mode(&dest, path), expected, "{path}");
        assert_eq!(xattr(&dest.path(path), "system.posix_acl_access"), None, "{path}");
        assert_eq!(xattr(&dest.path(path), "system.posix_acl_default"), None, "{path}");
    }
    assert_eq!(xattr(&dest.path("own"), "system.posix_acl_default"), Some(acl));
}

#[test]
#[ignore = "needs root"]
fn devices_are_made_and_left_out_in_a_user_namespace() {
    let device = |typeflag, name, major, minor| {
        let mut header = Archive::header(typeflag, name);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        header.set_mode(0o660);
        header
    };
    let archive = Archive::new()
        .push(device(b'3', "char", 1, 300), "")
        .push(device(b'4', "block", 511, 7), "")
        .push(device(b'6', "fifo", 5, 5), "");
    let dest = Dest::new();
    dest.apply(&archive).unwrap();
    for (path, device) in [("char", (1, 300)), ("block", (511, 7))] {
        let rdev = dest.stat(path).rdev();
        assert_eq!((nix::sys::stat::major(rdev), nix::sys::stat::minor(rdev)), device);
        assert_eq!(mode(&dest, path), 0o660);
    }
    assert!(dest.stat("block").file_type().is_block_device());
    let dest = Dest::new();
    dest.apply_with(&archive, &ApplyOptions { in_user_namespace: true, ..ApplyOptions::default() }).unwrap();
    assert_eq!(dest.list(), ["fifo (fifo)"]);
}

#[test]
fn labels_and_overlays_attributes_are_left_out() {
    let dest = Dest::new();
    let archive = Archive::new()
        .pax(
            b'x',
            &[
                ("SCHILY.xattr.security.selinux", b"system_u:object_r:unlabeled_t:s0\0"),
                ("SCHILY.xattr.user.overlay.opaque", b"y"),
                ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
                ("SCHILY.xattr.user.fuseoverlayfs.opaque", b"y"),
            ],
        )
        .dir("dir/");
    dest.apply(&archive).unwrap();
    for name in ["user.overlay.opaque", "trusted.overlay.redirect", "user.fuseoverlayfs.opaque"] {
        assert_eq!(xattr(&dest.path("dir"), name), None, "{name}");
    }
}

#[test]
fn attributes_that_nothing_takes_are_ignored_or_not() {
    let dest = Dest::new();
    // No namespace of that name: EOPNOTSUPP everywhere.
    let unknown = Archive::new().pax(b'x', &[("SCHILY.xattr.nonsense.name", b"1")]).file("file", "1");
    dest.apply(&unknown).unwrap();
    // Only regular files and directories have user attributes: EPERM, even for root.
    let symlink = Archive::new().pax(b'x', &[("SCHILY.xattr.user.name", b"1")]).symlink("symlink", "x");
    let error = dest.apply(&symlink).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("setxattr \"symlink\": user.name"), "{error}");
    dest.apply_with(&symlink, &ApplyOptions { in_user_namespace: true, ..ApplyOptions::default() }).unwrap();
}

fn maps(host_id: u32) -> IdMaps {
    let map = vec![IdMap { container_id: 0, host_id, size: 1000 }];
    IdMaps::new(map.clone(), map).unwrap()
}

#[test]
#[ignore = "needs root"]
fn owners_are_mapped_to_the_host() {
    let dest = Dest::new();
    let options = ApplyOptions { id_maps: maps(100_000), ..ApplyOptions::default() };
    let mut symlink = owned(b'2', "symlink", 7, 8);
    symlink.as_old_mut().linkname[0] = b'x';
    let archive = Archive::new()
        .push(owned(b'0', "file", 5, 6), "")
        .push(owned(b'0', "implied/file", 0, 0), "")
        .push(symlink, "");
    dest.apply_with(&archive, &options).unwrap();
    let owner = |path| (dest.stat(path).uid(), dest.stat(path).gid());
    assert_eq!(owner("file"), (100_005, 100_006));
    assert_eq!(owner("implied"), (100_000, 100_000));
    assert_eq!(owner("symlink"), (100_007, 100_008));
}

#[test]
fn an_owner_without_a_host_id_is_told_or_ignored() {
    let mut options = ApplyOptions { id_maps: maps(geteuid().as_raw()), ..ApplyOptions::default() };
    let archive = Archive::new().push(owned(b'0', "file", 1000, 0), "");
    let error = Dest::new().apply_with(&archive, &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArchive);
    assert!(error.to_string().contains("/etc/subuid"), "{error}");
    options.ignore_chown_errors = true;
    let dest = Dest::new();
    dest.apply_with(&archive, &options).unwrap();
    assert_eq!(dest.stat("file").uid(), geteuid().as_raw());
}

#[test]
fn a_forced_mask_notes_what_is_real() {
    let dest = Dest::new();
    let options = ApplyOptions { force_mask: Some(0o700), ..ApplyOptions::default() };
    let mut device = owned(b'3', "dir/null", 0, 0);
    device.set_device_major(1).unwrap();
    device.set_device_minor(3).unwrap();
    device.set_mode(0o666);
    let mut file = owned(b'0', "file", 1234, 5678);
    file.set_mode(0o4751);
    let archive = Archive::new()
        .push(file, "1")
        .push(owned(b'5', "dir/", 1, 2), "")
        .push(device, "")
        .push(owned(b'6', "dir/fifo", 1, 2), "")
        .file("implied/x", "")
        .symlink("symlink", "x");
    dest.apply_with(&archive, &options).unwrap();
    for (path, expected) in [
        ("file", "1234:5678:4751:file"),
        ("dir", "1:2:0755:dir"),
        ("dir/null", "0:0:0666:char-1-3"),
        ("dir/fifo", "1:2:0644:pipe"),
        ("implied", "0:0:0755:dir"),
        ("../dest", "0:0:0755:dir"),
    ] {
        let value = xattr(&dest.path(path), "user.containers.override_stat").unwrap();
        assert_eq!(String::from_utf8(value).unwrap(), expected, "{path}");
        assert_eq!(mode(&dest, path), 0o700, "{path}");
        assert_eq!(dest.stat(path).uid(), geteuid().as_raw());
    }
    assert!(dest.stat("dir/null").is_file());
    let root = Archive::new().push(with_mode(b'5', "./", 0o711), "");
    dest.apply_with(&root, &options).unwrap();
    let owner = nix::unistd::geteuid();
    let value = xattr(&dest.path("../dest"), "user.containers.override_stat").unwrap();
    assert_eq!(String::from_utf8(value).unwrap(), format!("{owner}:{}:0711:dir", nix::unistd::getegid()));
}

/// What an ordinary user sees, made by root giving up its capabilities in a child.
#[test]
#[ignore = "needs root"]
fn an_ordinary_user_needs_the_option_for_other_owners() {
    let dest = Dest::new();
    let archive = dest.path("../layer.tar");
    let header = owned(b'0', "file", 0, 0);
    fs::write(&archive, Archive::new().push(header, "1").bytes()).unwrap();
    for path in ["", ".."] {
        fs::set_permissions(dest.path(path), Permissions::from_mode(0o755)).unwrap();
    }
    chown(dest.path(""), Some(1000), Some(1000)).unwrap();
    for ignore in ["", "ignore"] {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "metadata::as_an_ordinary_user", "--include-ignored", "--nocapture"])
            .env("APPLY_TO", dest.path(""))
            .env("APPLY_FROM", &archive)
            .env("APPLY_IGNORE", ignore)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(dest.stat("file").uid(), 1000);
}

/// Body of the test above; does nothing by itself.
#[test]
#[ignore = "run by another test"]
fn as_an_ordinary_user() {
    let (Ok(to), Ok(from)) = (std::env::var("APPLY_TO"), std::env::var("APPLY_FROM")) else { return };
    nix::unistd::setgid(1000.into()).unwrap();
    nix::unistd::setuid(1000.into()).unwrap();
    let ignore_chown_errors = std::env::var("APPLY_IGNORE").unwrap() == "ignore";
    let options = ApplyOptions { ignore_chown_errors, ..ApplyOptions::default() };
    let root = graphdriver_archive::RootDir::open(to).unwrap();
    let result = apply(&root, &mut fs::File::open(from).unwrap(), &options);
    match result {
        Ok(_) => assert!(ignore_chown_errors),
        Err(error) => {
            assert!(!ignore_chown_errors && error.kind() == ErrorKind::PermissionDenied, "{error}");
            assert!(error.to_string().contains("\"file\": 0:0"), "{error}");
        }
    }
}
