//! Truncated, corrupt and endless archives; disks that fill up.

use std::io::{self, Read};
use std::sync::mpsc;
use std::time::Duration;

use graphdriver_archive::{ApplyOptions, ErrorKind, WhiteoutMode, apply};
use proptest::prelude::*;

use super::support::{Archive, Dest};

fn sample() -> Archive {
    Archive::new()
        .dir("dir/")
        .file("dir/file", vec![b'x'; 2000])
        .pax(b'x', &[("path", b"dir/pax"), ("mtime", b"1.5"), ("SCHILY.xattr.user.a", b"1")])
        .file("x", "1")
        .pax(b'x', &[("GNU.sparse.size", b"9000"), ("GNU.sparse.map", b"100,3,8000,2")])
        .file("sparse", "abcde")
        .symlink("symlink", "dir")
        .link("link", "dir/file")
        .file("dir/.wh.gone", "")
        .file("dir/.wh..wh..opq", "")
        .push(Archive::header(b'6', "fifo"), "")
}

#[test]
fn every_truncation_is_told() {
    let archive = sample().bytes();
    for bytes in (512..archive.len() - 1024).step_by(512).chain([1, 511, 513, 1500]) {
        let dest = Dest::new();
        let error = apply(&dest.root(), &mut &archive[..bytes], &ApplyOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArchive, "{bytes}");
        assert!(
            error.to_string().contains("unexpected end") || error.to_string().contains("ends after"),
            "{error}"
        );
    }
}

#[test]
fn junk_is_told() {
    for junk in [&b"junk"[..], &[b'x'; 512], &[0xff; 2000]] {
        let error = apply(&Dest::new().root(), &mut { junk }, &ApplyOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArchive);
    }
    // Compressed archives are the caller's to decompress.
    let gzip = [&[0x1f, 0x8b, 8, 0][..], &[7; 2000]].concat();
    let error = apply(&Dest::new().root(), &mut &gzip[..], &ApplyOptions::default()).unwrap_err();
    assert!(error.to_string().contains("not a tar header"), "{error}");
}

#[test]
fn a_failing_source_keeps_its_kind() {
    struct Failing<'a>(&'a [u8]);
    impl Read for Failing<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::Error::from_raw_os_error(nix::libc::ENOSPC)),
                read => Ok(read),
            }
        }
    }
    let archive = sample().bytes();
    let error = apply(&Dest::new().root(), &mut Failing(&archive), &ApplyOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Whatever is changed, with checksums made right again: no panic, no hang, nothing outside.
    #[test]
    fn damaged_archives_do_no_harm(
        changes in prop::collection::vec((0_usize..10_000, any::<u8>()), 1..8),
        repair in any::<bool>(),
        aufs in any::<bool>(),
    ) {
        let mut archive = sample().bytes();
        for (place, byte) in changes {
            let place = place % archive.len();
            archive[place] = byte;
            if repair {
                let block = place / 512 * 512;
                let mut header = tar::Header::new_old();
                header.as_mut_bytes().copy_from_slice(&archive[block..block + 512]);
                header.set_cksum();
                archive[block..block + 512].copy_from_slice(header.as_bytes());
            }
        }
        let dest = Dest::new();
        let whiteouts = if aufs { WhiteoutMode::Aufs } else { WhiteoutMode::Execute };
        let options = ApplyOptions { whiteouts, ignore_chown_errors: true, in_user_namespace: true, ..ApplyOptions::default() };
        let _ = apply(&dest.root(), &mut &archive[..], &options);
        dest.check_victim();
    }
}

/// Runs on a thread of its own, so that a deadlock fails the test instead of hanging it.
fn within_a_minute<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(run()));
    receiver.recv_timeout(Duration::from_secs(60)).expect("hangs")
}

#[test]
#[ignore = "needs root"]
fn a_full_disk_is_told_by_any_number_of_threads() {
    let small =
        (0..3000).fold(Archive::new(), |archive, index| archive.file(&format!("file-{index}"), [b'x'; 5000]));
    let large = (0..4)
        .fold(Archive::new(), |archive, index| archive.file(&format!("file-{index}"), vec![b'x'; 6 << 20]));
    for (archive, threads) in [1, 2, 4].into_iter().flat_map(|threads| [(&small, threads), (&large, threads)])
    {
        let dest = Dest::new();
        let mount = |program: &str, arguments: &[&str]| {
            let status = std::process::Command::new(program).args(arguments).arg(dest.path("")).status();
            assert!(status.unwrap().success());
        };
        mount("mount", &["-t", "tmpfs", "-o", "size=4m", "tmpfs"]);
        let (root, bytes) = (dest.root(), archive.bytes());
        let error = within_a_minute(move || {
            apply(&root, &mut &bytes[..], &ApplyOptions { threads, ..ApplyOptions::default() }).unwrap_err()
        });
        mount("umount", &[]);
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
        assert!(error.to_string().contains("pwrite64 \"file-"), "{error}");
    }
}
