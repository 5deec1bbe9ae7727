//! Wrong input of every kind: exit status, one line about it, and nothing left behind.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use graphdriver_sys::ofd_lock::{LockKind, try_lock};

use crate::store::{Entry, PROGRAM, Store, append, tar};

#[test]
fn exit_statuses() {
    let store = Store::new();
    store.ok(&["create", "base"]);
    store.ok(&["create", "child", "--parent", "base"]);
    let table: &[(&[&str], i32, &str)] = &[
        (&["create", "base"], 1, "exists already"),
        (&["create", "x", "--parent", "nonesuch"], 1, "nonesuch"),
        (&["create", "x", "--template", "nonesuch"], 1, "nonesuch"),
        (&["remove", "nonesuch"], 1, "no such layer"),
        (&["remove", "base"], 1, "child"),
        (&["mount", "nonesuch"], 1, "no such layer"),
        (&["unmount", "nonesuch"], 1, "no such layer"),
        (&["unmount", "base"], 2, "base"),
        (&["diff", "nonesuch"], 1, "no such layer"),
        (&["changes", "base", "--parent", "nonesuch"], 1, "nonesuch"),
        (&["usage", "nonesuch"], 1, "no such layer"),
        (&["metadata", "nonesuch"], 1, "no such layer"),
        (&["apply", "x", "/no/such/file.tar"], 1, "/no/such/file.tar"),
        (&["import", "oci:/no/such/dir"], 1, "/no/such/dir"),
        (&["import", "oci-archive:/dev/null"], 2, "not a regular file"),
        (&["-o", "vfs.nonesuch=1", "list"], 2, "nonesuch"),
        (&["create", "x", "--size", "1m"], 2, "read-write layers only"),
        (&["create", "x", "--inodes", "100"], 2, "read-write layers only"),
        (&["run", "nonesuch", "--", "true"], 1, "nonesuch"),
    ];
    for (arguments, status, about) in table {
        let message = store.fails(arguments, *status);
        assert!(message.contains(about), "{arguments:?}: {message}");
    }
    assert_eq!(store.list(), ["base", "child"]);
    store.assert_clean();
}

#[test]
fn wrong_usage_is_told_by_the_parser() {
    let store = Store::new();
    for arguments in [
        &["create", ""][..],
        &["create", ".."],
        &["create", "a/b"],
        &["create", "x", "--size", "many"],
        &["-o", "no-equals-sign", "list"],
        &["import", "docker://alpine"],
        &["frobnicate"],
        &[],
    ] {
        assert_eq!(store.run(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn an_unknown_driver_is_not_supported() {
    let store = Store::new();
    let mut command = std::process::Command::new(PROGRAM);
    command.arg("--root").arg(store.path("root")).arg("--run-root").arg(store.path("run"));
    let output = command.args(["--driver", "nonesuch", "list"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("vfs"), "names those that there are");
}

#[test]
fn archives_that_must_not_become_layers() {
    let whole = tar(&[Entry::File("a", "a"), Entry::File("b", &"b".repeat(5000))]);
    let mut flipped = whole.clone();
    flipped[1024] ^= 1;
    let escaping = |name: &str| {
        let mut builder = tar::Builder::new(Vec::new());
        append(&mut builder, tar::Header::new_gnu(), name, b"x");
        builder.into_inner().unwrap()
    };
    let gzip_truncated = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, &whole).unwrap();
        let gzip = encoder.finish().unwrap();
        gzip[..gzip.len() - 10].to_vec()
    };
    let table = [
        ("truncated", whole[..3000].to_vec(), ""),
        ("flipped", flipped, ""),
        ("no tar", vec![b'x'; 2000], ""),
        ("climbs", escaping("../../outside"), "outside"),
        ("gzip truncated", gzip_truncated, "gzip"),
        ("bzip2", b"BZh91AY&SY0123456789".to_vec(), "bzip2"),
        ("xz", b"\xfd7zXZ\0\0\x04".to_vec(), "xz"),
    ];
    let store = Store::new();
    for (name, archive, about) in table {
        let output = store.apply("x", None, &archive);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {message}");
        assert!(message.contains(about) && message.lines().count() == 1, "{name}: {message}");
        assert!(output.stdout.is_empty(), "{name}");
        assert!(store.list().is_empty(), "{name}");
    }
    assert!(!store.path("outside").exists());
    store.assert_clean();
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let store = Store::new();
    store.ok(&["create", "base"]);
    let mut child = store.command(&["list"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    // The program may have been faster than we were; it must not complain in any case.
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = store.command(&["diff", "base"]).stdout(closed_pipe()).output().unwrap();
    assert_eq!(
        (output.status.code(), output.stderr.len()),
        (Some(1), 0),
        "a diff that nobody has is no success"
    );
}

/// A pipe that nobody reads.
fn closed_pipe() -> Stdio {
    let (_, writer) = std::io::pipe().unwrap();
    writer.into()
}

#[test]
fn info_and_drivers_say_what_is_here() {
    let store = Store::new();
    let info: serde_json::Value = serde_json::from_str(&store.ok(&["info", "--json"])).unwrap();
    assert_eq!(info["driver"], "vfs");
    assert_eq!(info["capabilities"]["native_diff"], false);
    assert!(store.ok(&["info"]).starts_with("Driver "));
    let drivers: serde_json::Value = serde_json::from_str(&store.ok(&["drivers", "--json"])).unwrap();
    let vfs = drivers.as_array().unwrap().iter().find(|driver| driver["name"] == "vfs").unwrap();
    assert_eq!((&vfs["usable"], &vfs["automatic"]), (&true.into(), &false.into()));
    assert!(store.ok(&["drivers"]).contains("vfs"));
}

#[test]
#[ignore = "needs root"]
fn info_says_why_a_feature_is_off() {
    let store = Store::new();
    let words = ["--driver", "overlay", "-o", "disable_idmap=true", "info"];
    let info = |more: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.arg("--root").arg(store.path("root")).arg("--run-root").arg(store.path("run"));
        let output = command.args(words).args(more).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let reason = "switched off by the option disable_idmap";
    let json: serde_json::Value = serde_json::from_str(&info(&["--json"])).unwrap();
    let features = json["features"].as_array().unwrap();
    let feature = |name: &str| features.iter().find(|feature| feature["name"] == name).unwrap();
    assert_eq!((&feature("overlay")["on"], &feature("overlay")["reason"]), (&true.into(), &().into()));
    assert_eq!(
        (&feature("id_mapped_lowers")["on"], &feature("id_mapped_lowers")["reason"]),
        (&false.into(), &reason.into())
    );
    let text = info(&[]);
    let row = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(row("Without id_mapped_lowers").ends_with(reason), "{text}");
    assert!(!row("Kernel has").contains("id_mapped_lowers"), "{text}");
}

#[test]
fn check_finds_a_layer_without_its_parent() {
    let store = Store::new();
    store.ok(&["create", "base"]);
    store.ok(&["create", "child", "--parent", "base"]);
    assert_eq!(store.ok(&["check"]), "");
    let path = store.path("root/vfs/dir/base");
    // Its owner may not move a directory that he cannot write to.
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(path, store.path("elsewhere")).unwrap();
    let output = store.run(&["check", "--repair"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "layer child: its parent base is missing (the layer is whole; only a diff against its parent cannot be had)\n"
    );
}

#[test]
fn check_leaves_alone_what_a_running_process_uses() {
    let store = Store::new();
    store.ok(&["list"]);
    let tempdirs = store.path("root/vfs/tempdirs");
    std::fs::create_dir(tempdirs.join("temp-dir-1")).unwrap();
    let lock = std::fs::File::create(tempdirs.join("lock-1")).unwrap();
    assert!(try_lock(&lock, 0, 0, LockKind::Exclusive).unwrap());
    store.ok(&["check", "--repair"]);
    assert!(tempdirs.join("temp-dir-1").is_dir());
    drop(lock);
    store.ok(&["check"]);
    assert!(!tempdirs.join("temp-dir-1").exists(), "opening the store removes what nobody uses");
}
