//! The driver as an ordinary user, in a user namespace with a single id.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::Command;

use graphdriver_core::{DriverHome, ErrorKind, Graph, IdMaps, LayerApplyOptions, MountOptions, OpenOptions};
use graphdriver_overlay::DRIVER;
use graphdriver_sys::xattr;
use support::{BOTH_WAYS, Store, archive, base, id, names, on, write};

/// Tells a child process that it is one.
const INSIDE: &str = "OVERLAY_TEST_AS_USER";

/// An id that has no privilege.
const USER: u32 = 1000;

/// Runs the test `name` once more as an ordinary user below `wrapper`, to take its other half.
fn run_as_user(wrapper: &[&str], name: &str) {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // Where this program was built, another user may not look.
    let program = dir.path().join("test");
    // By another process: a descriptor of ours, open for writing, might be in a child of another test when the program is started.
    assert!(Command::new("cp").arg(env::current_exe().unwrap()).arg(&program).status().unwrap().success());
    let mut command = match wrapper {
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(&program);
            command
        }
        [] => Command::new(&program),
    };
    if nix::unistd::geteuid().is_root() {
        command.uid(USER).gid(USER);
    }
    let output = command
        .args(["--exact", name, "--ignored", "--nocapture"])
        .env(INSIDE, "1")
        .current_dir("/")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "needs user namespaces"]
fn in_a_user_namespace() {
    if env::var_os(INSIDE).is_none() {
        return run_as_user(&["unshare", "--user", "--map-root-user", "--mount"], "in_a_user_namespace");
    }
    for api in BOTH_WAYS {
        let store = Store::new();
        let (graph, home) = (store.open_by(api), store.home());
        assert!(graph.capabilities().user_namespace);
        assert!(graph.status().unwrap().contains(&("userxattr".to_owned(), "true".to_owned())));
        graph.create(&id("base"), &base()).unwrap();
        let mount = graph.mount(&id("base"), &MountOptions::default()).unwrap();
        fs::create_dir_all(mount.path().join("dir/sub")).unwrap();
        fs::write(mount.path().join("file"), "base").unwrap();
        mount.unmount().unwrap();
        graph.create(&id("child"), &on("base")).unwrap();
        let mount = graph.mount(&id("child"), &MountOptions::default()).unwrap();
        fs::remove_file(mount.path().join("file")).unwrap();
        fs::remove_dir(mount.path().join("dir/sub")).unwrap();
        fs::remove_dir(mount.path().join("dir")).unwrap();
        fs::create_dir(mount.path().join("dir")).unwrap();
        mount.unmount().unwrap();
        let whiteout = fs::symlink_metadata(home.join("child/diff/file")).unwrap();
        assert!(whiteout.file_type().is_char_device());
        let mount = graph.mount(&id("child"), &MountOptions::read_only()).unwrap();
        assert_eq!(names(mount.path()), ["dir"]);
        assert_eq!(names(mount.path().join("dir")), [""; 0]);
        mount.unmount().unwrap();
        write(&graph, "base", "again", "again");
        assert_eq!(graph.remove(&id("base")).unwrap_err().kind(), ErrorKind::LayerInUse);
        graph.remove(&id("child")).unwrap();
        graph.remove(&id("base")).unwrap();
        assert!(names(home.join("l")).is_empty());
    }
}

#[test]
#[ignore = "needs user namespaces"]
fn archives_in_a_user_namespace() {
    if env::var_os(INSIDE).is_none() {
        return run_as_user(
            &["unshare", "--user", "--map-root-user", "--mount"],
            "archives_in_a_user_namespace",
        );
    }
    let store = Store::new();
    let (graph, home) = (store.open(), store.home());
    let options = LayerApplyOptions::default();
    graph.create(&id("base"), &base()).unwrap();
    graph.apply(&id("base"), &mut archive(&["dir/", "dir/one", "file"]).as_slice(), &options).unwrap();
    let tar = archive(&["dir/", "dir/.wh..wh..opq", "dir/two", ".wh.file"]);
    graph.create_filled(&id("child"), &on("base"), &mut tar.as_slice(), &options).unwrap();
    let opaque =
        xattr::fget(File::open(home.join("child/diff/dir")).unwrap(), c"user.overlay.opaque").unwrap();
    assert_eq!(opaque.as_deref(), Some(b"y".as_slice()));
    let mount = graph.mount(&id("child"), &MountOptions::default()).unwrap();
    assert_eq!(names(mount.path()), ["dir"]);
    assert_eq!(names(mount.path().join("dir")), ["two"]);
    mount.unmount().unwrap();
    let mut diff = graph.diff(&id("child"), Some(&id("base")), &IdMaps::default()).unwrap();
    graph.create_filled(&id("copy"), &on("base"), &mut diff, &options).unwrap();
    diff.finish().unwrap();
    assert_eq!(graph.changes(&id("copy"), Some(&id("child"))).unwrap(), []);
}

#[test]
#[ignore = "needs user namespaces"]
fn owners_that_a_user_namespace_lacks() {
    if env::var_os(INSIDE).is_none() {
        let wrapper = ["unshare", "--user", "--map-root-user", "--mount"];
        return run_as_user(&wrapper, "owners_that_a_user_namespace_lacks");
    }
    let store = Store::new();
    let mut header = tar::Header::new_gnu();
    header.set_uid(5);
    header.set_gid(5);
    header.set_mode(0o644);
    header.set_size(0);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header, "file", &[][..]).unwrap();
    let tar = builder.into_inner().unwrap();
    let options = LayerApplyOptions::default();
    let graph = store.open();
    let error = graph.create_filled(&id("layer"), &base(), &mut tar.as_slice(), &options).unwrap_err();
    assert!(error.report().to_string().contains("file"), "{}", error.report());
    assert!(!graph.exists(&id("layer")).unwrap());
    let place = OpenOptions::new(store.root(), store.dir().join("run"))
        .with_options(["overlay.ignore_chown_errors=true".parse().unwrap()]);
    let driver = (DRIVER.open)(&DriverHome::new("overlay", &place).unwrap()).unwrap();
    let graph = Graph::new(driver);
    graph.create_filled(&id("layer"), &base(), &mut tar.as_slice(), &options).unwrap();
    assert_eq!(fs::metadata(store.home().join("layer/diff/file")).unwrap().uid(), 0);
}

#[test]
#[ignore = "needs root"]
fn without_privilege() {
    if env::var_os(INSIDE).is_none() {
        return run_as_user(&[], "without_privilege");
    }
    let store = Store::new();
    let options = OpenOptions::new(store.root(), store.dir().join("run"));
    let place = DriverHome::new("overlay", &options).unwrap();
    for error in [(DRIVER.probe)(&place).unwrap_err(), (DRIVER.open)(&place).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Prerequisites, "{}", error.report());
        assert!(error.report().to_string().contains("mounting needs root"), "{}", error.report());
    }
    assert_eq!(names(store.root()), [""; 0]);
}
