//! Mounts of every shape, by both ways of mounting.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use graphdriver_core::{ErrorKind, Graph, MountOptions};
use nix::errno::Errno;
use support::{BOTH_WAYS, Store, base, id, names, on, write};

/// The most lower layers that the kernel stacks.
const DEEPEST: usize = 500;

fn read(graph: &Graph, layer: &str, options: &MountOptions, path: &str) -> io::Result<String> {
    let mount = graph.mount(&id(layer), options).unwrap();
    let contents = fs::read_to_string(mount.path().join(path));
    mount.unmount().unwrap();
    contents
}

#[test]
#[ignore = "needs root"]
fn layers_show_through_and_can_be_written_to() {
    for api in BOTH_WAYS {
        let store = Store::new();
        let graph = store.open_by(api);
        graph.create(&id("base"), &base()).unwrap();
        write(&graph, "base", "file", "base");
        write(&graph, "base", "other", "other");
        graph.create(&id("child"), &on("base")).unwrap();
        let mount = graph.mount(&id("child"), &MountOptions::default()).unwrap();
        assert_eq!(mount.path(), store.home().join("child/merged"));
        assert_eq!(names(mount.path()), ["file", "other"]);
        fs::write(mount.path().join("file"), "child").unwrap();
        fs::remove_file(mount.path().join("other")).unwrap();
        mount.unmount().unwrap();
        assert_eq!(read(&graph, "child", &MountOptions::read_only(), "file").unwrap(), "child");
        assert_eq!(
            read(&graph, "child", &MountOptions::read_only(), "other").unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        assert_eq!(read(&graph, "base", &MountOptions::read_only(), "file").unwrap(), "base");
        assert!(names(store.home().join("child/merged")).is_empty(), "still mounted");
    }
}

#[test]
#[ignore = "needs root"]
fn read_only_mounts_refuse_to_write() {
    for api in BOTH_WAYS {
        let store = Store::new();
        let graph = store.open_by(api);
        graph.create(&id("base"), &base()).unwrap();
        graph.create(&id("child"), &on("base")).unwrap();
        let by_option = MountOptions { extra: vec!["ro".to_owned()], ..MountOptions::default() };
        for options in [MountOptions::read_only(), by_option] {
            for layer in ["base", "child"] {
                let mount = graph.mount(&id(layer), &options).unwrap();
                let error = fs::write(mount.path().join("file"), "").unwrap_err();
                assert_eq!(error.raw_os_error(), Some(Errno::EROFS as i32));
                mount.unmount().unwrap();
            }
        }
    }
}

#[test]
#[ignore = "needs root"]
fn mount_options_reach_the_mount() {
    for api in BOTH_WAYS {
        let store = Store::new();
        let graph = store.open_by(api);
        graph.create(&id("base"), &base()).unwrap();
        let extra = ["nodev", "nosuid", "noexec", "noatime"].map(str::to_owned).to_vec();
        let mount = graph.mount(&id("base"), &MountOptions { extra, ..MountOptions::default() }).unwrap();
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = table.lines().find(|line| line.contains(mount.path().to_str().unwrap())).unwrap();
        let options = line.split(' ').nth(5).unwrap();
        assert_eq!(options, "rw,nosuid,nodev,noexec,noatime");
        // Optional fields, of which a private mount has none, end with a dash.
        assert_eq!(line.split(' ').nth(6), Some("-"), "{line}");
        mount.unmount().unwrap();
        let extra = vec!["lowerdir=/etc".to_owned()];
        let error = graph.mount(&id("base"), &MountOptions { extra, ..MountOptions::default() }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
#[ignore = "needs root"]
fn volatile_mounts_can_be_made_again() {
    for api in BOTH_WAYS {
        let store = Store::new();
        let graph = store.open_by(api);
        if !graph.capabilities().volatile {
            continue;
        }
        graph.create(&id("base"), &base()).unwrap();
        let volatile = MountOptions { volatile: true, ..MountOptions::default() };
        for options in [volatile.clone(), volatile, MountOptions::default()] {
            let mount = graph.mount(&id("base"), &options).unwrap();
            let marked = store.home().join("base/work/work/incompat/volatile").exists();
            assert_eq!(marked, options.volatile);
            mount.unmount().unwrap();
        }
    }
}

#[test]
#[ignore = "needs root"]
fn as_many_lowers_as_the_kernel_stacks() {
    let store = Store::new();
    let graph = store.open();
    graph.create(&id("layer-0"), &base()).unwrap();
    for number in 1..=DEEPEST {
        graph.create(&id(&format!("layer-{number}")), &on(&format!("layer-{}", number - 1))).unwrap();
        let diff = store.home().join(format!("layer-{number}/diff"));
        fs::write(diff.join(format!("file-{number}")), number.to_string()).unwrap();
        fs::write(diff.join("top"), number.to_string()).unwrap();
    }
    let error = graph.create(&id("too-deep"), &on(&format!("layer-{DEEPEST}"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{}", error.report());
    assert!(!graph.exists(&id("too-deep")).unwrap());
    for api in BOTH_WAYS {
        let graph = store.open_by(api);
        for options in [MountOptions::default(), MountOptions::read_only()] {
            for top in [DEEPEST, DEEPEST - 1] {
                let mount = graph.mount(&id(&format!("layer-{top}")), &options).unwrap();
                assert_eq!(names(mount.path()).len(), top + 1);
                assert_eq!(fs::read_to_string(mount.path().join("file-1")).unwrap(), "1");
                assert_eq!(fs::read_to_string(mount.path().join("top")).unwrap(), top.to_string());
                let written = fs::write(mount.path().join("written"), "");
                assert_eq!(written.is_err(), options.read_only);
                if written.is_ok() {
                    fs::remove_file(mount.path().join("written")).unwrap();
                }
                mount.unmount().unwrap();
            }
        }
    }
}

#[test]
#[ignore = "needs root"]
fn any_legal_path() {
    let long = ["long"; 40].join("/deeper-and-");
    let not_text = OsStr::from_bytes(b"not-utf8-\xff");
    let paths = [
        "a:b",
        "a,b",
        "a\\b",
        "a\\:b\\,c\\\\",
        "a b",
        "a\nb",
        "\"quoted\"",
        "l=x,upperdir=y:z",
        "\u{e4}",
        &long,
    ];
    for path in paths.map(OsStr::new).into_iter().chain([not_text]) {
        for api in BOTH_WAYS {
            let store = Store::at(Path::new(path));
            let graph = store.open_by(api);
            graph.create(&id("base"), &base()).unwrap();
            write(&graph, "base", "below", "below");
            graph.create(&id("child"), &on("base")).unwrap();
            write(&graph, "child", "above", "above");
            assert_eq!(names(store.home().join("child/diff")), ["above"], "{path:?}");
            for options in [MountOptions::default(), MountOptions::read_only()] {
                assert_eq!(read(&graph, "child", &options, "below").unwrap(), "below", "{path:?} {api:?}");
                assert_eq!(read(&graph, "child", &options, "above").unwrap(), "above", "{path:?} {api:?}");
            }
        }
    }
}

#[test]
#[ignore = "needs root"]
fn what_the_kernel_refuses_is_said_in_its_words() {
    let store = Store::new();
    let graph = store.open();
    graph.create(&id("base"), &base()).unwrap();
    let label = Some("system_u:object_r:container_file_t:s0:c1,c2".to_owned());
    let labelled = graph.mount(&id("base"), &MountOptions { label, ..MountOptions::default() });
    if Path::new("/sys/fs/selinux/enforce").exists() {
        labelled.unwrap().unmount().unwrap();
    } else {
        let report = labelled.unwrap_err().report().to_string();
        assert!(report.contains("context"), "{report}");
    }
    // What did not work leaves nothing behind.
    graph.remove(&id("base")).unwrap();
}
