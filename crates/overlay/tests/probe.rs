//! Where the driver works, and what it says where it does not.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::fs;
use std::path::Path;

use graphdriver_core::{DriverHome, ErrorKind, OpenOptions};
use graphdriver_overlay::DRIVER;
use nix::mount::{MsFlags, mount};
use support::{Store, base, id, names};

#[test]
#[ignore = "needs root"]
fn probing_leaves_nothing() {
    let store = Store::new();
    let root = store.root().join("not/there");
    let place = DriverHome::new("overlay", &OpenOptions::new(&root, store.root().join("run"))).unwrap();
    (DRIVER.probe)(&place).unwrap();
    assert_eq!(names(store.root()), [""; 0]);
    (DRIVER.open)(&place).unwrap();
    assert_eq!(names(&root), ["overlay"]);
    (DRIVER.probe)(&place).unwrap();
    assert_eq!(names(root.join("overlay/tempdirs")), [""; 0]);
}

#[test]
#[ignore = "needs root"]
fn overlay_below_overlay_is_refused() {
    let store = Store::new();
    let graph = store.open();
    graph.create(&id("base"), &base()).unwrap();
    let outer = graph.mount(&id("base"), &graphdriver_core::MountOptions::default()).unwrap();
    let options = OpenOptions::new(outer.path(), store.root().join("inner-run"));
    let place = DriverHome::new("overlay", &options).unwrap();
    for error in [(DRIVER.probe)(&place).unwrap_err(), (DRIVER.open)(&place).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::IncompatibleFs);
        assert!(error.to_string().contains("the file system is overlayfs"), "{error}");
    }
    assert_eq!(names(outer.path()), [""; 0]);
    outer.unmount().unwrap();
}

#[test]
#[ignore = "needs root"]
fn a_file_system_without_attributes_is_refused() {
    let store = Store::new();
    let target = store.root().join("ramfs");
    fs::create_dir(&target).unwrap();
    mount(Some("ramfs"), &target, Some("ramfs"), MsFlags::empty(), None::<&Path>).unwrap();
    let place = DriverHome::new("overlay", &OpenOptions::new(&target, store.root().join("run"))).unwrap();
    let error = (DRIVER.probe)(&place).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IncompatibleFs);
    assert!(error.to_string().contains("trusted.overlay.opaque"), "{error}");
}

#[test]
fn unknown_options_are_refused_before_anything_is_made() {
    let store = Store::new();
    let options = OpenOptions::new(store.root(), store.root().join("run"))
        .with_options(["overlay.mountoption=nodev".parse().unwrap()]);
    let place = DriverHome::new("overlay", &options).unwrap();
    for error in [(DRIVER.probe)(&place).unwrap_err(), (DRIVER.open)(&place).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("ignore_chown_errors"), "{error}");
    }
    assert_eq!(names(store.root()), [""; 0]);
}
