//! Layers that are only read: mounted so that nobody can write to them.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::Command;

use graphdriver_core::{ErrorKind, IdMaps, MountOptions, bind_read_only, mount_info};

use crate::test_volume::run;
use crate::volume::{Volume, create, id, open_at};

fn is_refused(dir: &Path) -> bool {
    fs::write(dir.join("new"), "").is_err_and(|error| error.kind() == io::ErrorKind::ReadOnlyFilesystem)
}

#[test]
#[ignore = "needs root"]
fn read_while_others_write() {
    let volume = Volume::new();
    let graph = volume.open();
    create(&graph, "layer", None);
    let writer = graph.mount(&id("layer"), &MountOptions::default()).unwrap();
    assert_eq!(writer.path(), volume.layer("layer"), "as the Go drivers have it");
    let reader = graph.mount(&id("layer"), &MountOptions::read_only()).unwrap();
    assert!(is_refused(reader.path()));
    fs::write(writer.path().join("file"), "written").unwrap();
    assert_eq!(fs::read(reader.path().join("file")).unwrap(), b"written");
    let extra = MountOptions { extra: vec!["ro".to_owned()], ..MountOptions::default() };
    let another = volume.open();
    let second = another.mount(&id("layer"), &extra).unwrap();
    assert_eq!(second.path(), reader.path(), "all readers share one mount");
    let path = reader.path().to_owned();
    writer.unmount().unwrap();
    reader.unmount().unwrap();
    assert!(is_refused(second.path()));
    graph.remove(&id("layer")).unwrap_err();
    second.unmount().unwrap();
    assert!(!path.exists() && !mount_info::is_mounted(&path).unwrap());
    graph.remove(&id("layer")).unwrap();
}

#[test]
#[ignore = "needs root"]
fn mounts_of_killed_readers_are_taken_away() {
    let volume = Volume::new();
    let graph = volume.open();
    for name in ["cleaned", "removed", "used"] {
        create(&graph, name, None);
        let target = volume.path().join("run/btrfs/mounts").join(name);
        fs::create_dir_all(&target).unwrap();
        bind_read_only(&volume.layer(name), &target).unwrap();
    }
    let target = |name: &str| volume.path().join("run/btrfs/mounts").join(name);
    graph.remove(&id("removed")).unwrap();
    assert!(!target("removed").exists());
    let reader = graph.mount(&id("used"), &MountOptions::read_only()).unwrap();
    assert_eq!(reader.path(), target("used"));
    volume.open().cleanup().unwrap();
    assert!(!target("cleaned").exists());
    assert!(is_refused(reader.path()), "it is in use");
    reader.unmount().unwrap();
    assert!(!target("used").exists());
}

#[test]
#[ignore = "needs root"]
fn a_kept_mount_is_ended_by_another_opening() {
    let volume = Volume::new();
    let graph = volume.open();
    create(&graph, "layer", None);
    let path = graph.mount(&id("layer"), &MountOptions::read_only()).unwrap().keep().unwrap();
    drop(graph);
    let graph = volume.open();
    graph.cleanup().unwrap();
    assert!(is_refused(&path));
    graph.unmount(&id("layer")).unwrap();
    assert!(!path.exists());
}

/// Tells the process without privilege which volume it is about.
const VOLUME: &str = "GRAPHDRIVER_BTRFS_VOLUME";

#[test]
#[ignore = "needs root"]
fn without_the_right_to_mount() {
    if let Some(dir) = std::env::var_os(VOLUME) {
        return compare_without_mounts(dir.as_ref());
    }
    let volume = Volume::new();
    let graph = volume.open();
    create(&graph, "base", None);
    fs::write(volume.layer("base").join("file"), "before").unwrap();
    create(&graph, "child", Some("base"));
    fs::write(volume.layer("child").join("file"), "after it").unwrap();
    let mut this_test = Command::new("setpriv");
    this_test.args(["--bounding-set", "-sys_admin"]).arg(std::env::current_exe().unwrap());
    this_test.args(["readers::without_the_right_to_mount", "--exact", "--include-ignored"]);
    let said = run(this_test.env(VOLUME, volume.path()));
    assert!(said.contains("1 passed"), "{said}");
}

fn compare_without_mounts(dir: &Path) {
    let graph = open_at(dir, &[]).unwrap();
    let refused = graph.mount(&id("child"), &MountOptions::read_only()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{}", refused.report());
    let changes = graph.changes(&id("child"), Some(&id("base"))).unwrap();
    assert_eq!(changes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["C /file"]);
    assert_eq!(graph.diff_size(&id("child"), Some(&id("base"))).unwrap(), 8);
    let mut diff = graph.diff(&id("child"), Some(&id("base")), &IdMaps::default()).unwrap();
    let mut tar = Vec::new();
    diff.read_to_end(&mut tar).unwrap();
    diff.finish().unwrap();
    assert!(tar.windows(8).any(|bytes| bytes == b"after it"));
    assert!(!graph.capabilities().native_diff);
}
