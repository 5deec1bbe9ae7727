//! The tests. Answers of processes are `ran` when the request mounted or unmounted, `not needed` when it did not, or the kind of error.

use std::fs::{self, File};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use graphdriver_core::{Error, ErrorKind, unmount_lazily};

use crate::layer::{Layer, Place, mount_tmpfs};
use crate::process::{Process, hammer};

pub(crate) const ALL: &[(&str, fn())] = &[
    ("two_processes_share_a_mount", two_processes_share_a_mount),
    ("both_checkers_agree", both_checkers_agree),
    ("the_process_that_mounted_may_go_first", the_process_that_mounted_may_go_first),
    ("references_of_a_killed_process_vanish", references_of_a_killed_process_vanish),
    ("what_a_killed_process_left_is_mounted_anew", what_a_killed_process_left_is_mounted_anew),
    ("what_a_killed_process_left_is_used_when_busy", what_a_killed_process_left_is_used_when_busy),
    ("what_a_killed_process_left_can_be_removed", what_a_killed_process_left_can_be_removed),
    ("what_a_killed_process_left_can_be_reclaimed", what_a_killed_process_left_can_be_reclaimed),
    ("persistent_references_outlive_processes", persistent_references_outlive_processes),
    ("a_mount_is_shared_in_its_manner_only", a_mount_is_shared_in_its_manner_only),
    ("a_vanished_mount_is_made_again", a_vanished_mount_is_made_again),
    ("a_vanished_mount_ends_persistent_references", a_vanished_mount_ends_persistent_references),
    ("a_foreign_mount_is_adopted", a_foreign_mount_is_adopted),
    ("a_used_layer_is_not_removed", a_used_layer_is_not_removed),
    ("nobody_mounts_during_a_removal", nobody_mounts_during_a_removal),
    ("a_failed_mount_takes_no_reference", a_failed_mount_takes_no_reference),
    ("a_failed_unmount_gives_the_reference_back", a_failed_unmount_gives_the_reference_back),
    ("a_mount_that_hangs_blocks_no_other_layer", a_mount_that_hangs_blocks_no_other_layer),
    ("many_threads_of_several_processes", many_threads_of_several_processes),
    ("records_are_made_again_in_a_cleared_directory", records_are_made_again_in_a_cleared_directory),
];

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    result.unwrap_err().kind()
}

fn two_processes_share_a_mount() {
    let place = Place::new();
    let (ours, mut theirs) = (Layer::new(place.path()), Process::start(place.path()));
    assert!(ours.acquire().unwrap());
    assert_eq!(theirs.ask("acquire"), "not needed");
    assert_eq!(theirs.ask("acquire"), "not needed");
    assert!(!ours.release().unwrap());
    assert_eq!(kind(ours.release()), ErrorKind::InvalidArgument, "theirs are not ours to give back");
    assert_eq!(theirs.ask("release"), "not needed");
    assert_eq!(place.mounts(), 1);
    assert_eq!(theirs.ask("release"), "ran");
    assert_eq!(place.mounts(), 0);
    assert_eq!(theirs.ask("release"), "InvalidArgument");
    assert!(!place.has_record());
}

fn both_checkers_agree() {
    let place = Place::new();
    let (one, two) = (Layer::new(place.path()), Layer::with_mount_table(place.path()));
    for (first, second) in [(&one, &two), (&two, &one)] {
        assert!(!first.counter().is_mounted(&place.target()).unwrap());
        assert!(first.acquire().unwrap());
        assert!(second.counter().is_mounted(&place.target()).unwrap());
        assert!(!second.acquire().unwrap());
        assert!(!first.release().unwrap());
        assert!(second.release().unwrap());
    }
}

fn the_process_that_mounted_may_go_first() {
    let place = Place::new();
    let (ours, mut theirs) = (Layer::new(place.path()), Process::start(place.path()));
    assert_eq!(theirs.ask("acquire"), "ran");
    assert!(!ours.acquire().unwrap());
    theirs.quit();
    assert_eq!(place.mounts(), 1);
    assert!(ours.release().unwrap());
    assert_eq!(place.mounts(), 0);
}

fn references_of_a_killed_process_vanish() {
    let place = Place::new();
    let (ours, mut theirs) = (Layer::new(place.path()), Process::start(place.path()));
    assert!(ours.acquire().unwrap());
    assert_eq!(theirs.ask("acquire"), "not needed");
    theirs.kill();
    assert!(ours.release().unwrap());
    assert!(!place.has_record());
}

/// Leaves a mount without references.
fn abandon(place: &Place) {
    let mut process = Process::start(place.path());
    assert_eq!(process.ask("acquire"), "ran");
    process.kill();
    assert_eq!(place.mounts(), 1);
}

fn what_a_killed_process_left_is_mounted_anew() {
    let place = Place::new();
    abandon(&place);
    fs::write(place.target().join("old"), b"").unwrap();
    let ours = Layer::new(place.path());
    assert_eq!(kind(ours.release()), ErrorKind::InvalidArgument);
    assert!(ours.acquire().unwrap());
    assert!(!place.target().join("old").exists());
    assert!(ours.release().unwrap());
    assert_eq!(place.mounts(), 0);
}

fn what_a_killed_process_left_is_used_when_busy() {
    let place = Place::new();
    abandon(&place);
    let open = File::create(place.target().join("old")).unwrap();
    let ours = Layer::new(place.path());
    assert!(!ours.acquire().unwrap());
    assert!(place.target().join("old").exists());
    drop(open);
    assert!(ours.release().unwrap());
    assert_eq!(place.mounts(), 0);
}

fn what_a_killed_process_left_can_be_removed() {
    let place = Place::new();
    abandon(&place);
    let ours = Layer::new(place.path());
    let open = File::create(place.target().join("old")).unwrap();
    assert_eq!(kind(ours.while_unused(|| panic!("in use"))), ErrorKind::LayerInUse);
    drop(open);
    ours.while_unused(|| ()).unwrap();
    assert_eq!(place.mounts(), 0);
    assert!(!place.has_record());
}

fn what_a_killed_process_left_can_be_reclaimed() {
    let place = Place::new();
    let ours = Layer::new(place.path());
    assert!(!ours.reclaim().unwrap(), "there is nothing");
    assert!(ours.acquire().unwrap());
    assert!(!Layer::new(place.path()).reclaim().unwrap(), "it is used");
    assert!(ours.release().unwrap());
    abandon(&place);
    assert!(ours.reclaim().unwrap());
    assert_eq!(place.mounts(), 0);
    assert!(!place.has_record());
}

fn persistent_references_outlive_processes() {
    let place = Place::new();
    let ours = Layer::new(place.path());
    let mut theirs = Process::start(place.path());
    assert_eq!(theirs.ask("acquire persistent"), "ran");
    assert_eq!(theirs.ask("acquire persistent"), "not needed");
    theirs.kill();
    assert_eq!(kind(ours.while_unused(|| panic!("in use"))), ErrorKind::LayerInUse);
    assert!(!ours.acquire().unwrap());
    assert!(!ours.release().unwrap());
    assert!(!ours.reclaim().unwrap());
    let mut others = Process::start(place.path());
    assert_eq!(others.ask("release"), "not needed");
    assert_eq!(place.mounts(), 1);
    assert_eq!(others.ask("release"), "ran");
    assert_eq!(others.ask("release"), "InvalidArgument");
    assert_eq!(place.mounts(), 0);
    assert!(!place.has_record());
}

fn a_mount_is_shared_in_its_manner_only() {
    let place = Place::new();
    let (ours, mut theirs) = (Layer::new(place.path()), Process::start(place.path()));
    assert!(ours.acquire_in("through maps").unwrap());
    let error = Layer::new(place.path()).acquire_in("").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LayerInUse);
    assert!(
        error.to_string().contains("is mounted through maps, it cannot be mounted as it is on disk"),
        "{error}"
    );
    assert_eq!(kind(ours.acquire_in("through others")), ErrorKind::LayerInUse);
    // A persistent reference leaves what is written of the mount; who does not care shares it.
    assert_eq!(theirs.ask("acquire persistent"), "not needed");
    assert!(!ours.acquire_in("through maps").unwrap());
    for _ in 0..2 {
        assert!(!ours.release().unwrap());
    }
    assert_eq!(kind(ours.acquire_in("")), ErrorKind::LayerInUse);
    assert_eq!(theirs.ask("release"), "ran");
    assert!(ours.acquire_in("").unwrap());
    // Unmounted behind our back: the next one decides anew.
    unmount_lazily(&place.target()).unwrap();
    assert!(ours.acquire_in("through others").unwrap());
    assert!(!ours.release().unwrap());
    assert!(ours.release().unwrap());
    assert!(!place.has_record());
}

fn a_vanished_mount_is_made_again() {
    let place = Place::new();
    let (ours, mut theirs) = (Layer::new(place.path()), Process::start(place.path()));
    assert!(ours.acquire().unwrap());
    unmount_lazily(&place.target()).unwrap();
    assert_eq!(theirs.ask("acquire"), "ran");
    assert!(!ours.release().unwrap(), "theirs keeps it");
    assert_eq!(theirs.ask("release"), "ran");

    assert!(ours.acquire().unwrap());
    unmount_lazily(&place.target()).unwrap();
    assert!(ours.acquire().unwrap());
    assert!(!ours.release().unwrap(), "each of the two is given back");
    assert!(ours.release().unwrap());

    assert!(ours.acquire().unwrap());
    unmount_lazily(&place.target()).unwrap();
    assert!(!ours.release().unwrap(), "nothing to unmount");
    assert!(!place.has_record());
}

fn a_vanished_mount_ends_persistent_references() {
    let place = Place::new();
    let ours = Layer::new(place.path());
    assert!(ours.acquire_persistent().unwrap());
    unmount_lazily(&place.target()).unwrap();
    ours.while_unused(|| ()).unwrap();
    assert!(ours.acquire_persistent().unwrap());
    unmount_lazily(&place.target()).unwrap();
    assert!(ours.acquire().unwrap());
    assert!(ours.release().unwrap(), "the persistent one went with the mount");
}

fn a_foreign_mount_is_adopted() {
    let place = Place::new();
    mount_tmpfs(&place.target()).unwrap();
    let (ours, mut theirs) = (Layer::new(place.path()), Process::start(place.path()));
    assert_eq!(theirs.ask("remove"), "LayerInUse");
    assert!(!ours.acquire().unwrap());
    assert!(!ours.release().unwrap(), "another program uses it");
    assert_eq!(place.mounts(), 1);
    assert_eq!(theirs.ask("release"), "ran", "it counts as one persistent reference");
    assert_eq!(place.mounts(), 0);
    assert!(!place.has_record());

    mount_tmpfs(&place.target()).unwrap();
    assert!(ours.release().unwrap());
}

fn a_used_layer_is_not_removed() {
    let place = Place::new();
    let (ours, mut theirs) = (Layer::new(place.path()), Process::start(place.path()));
    assert!(ours.acquire().unwrap());
    let error = ours.while_unused(|| panic!("in use")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LayerInUse);
    assert_eq!(error.failed_layer().map(ToString::to_string).as_deref(), Some("layer"));
    assert_eq!(theirs.ask("remove"), "LayerInUse");
    assert!(ours.release().unwrap());
    assert_eq!(theirs.ask("remove"), "ran");
    assert!(!place.has_record());
}

fn nobody_mounts_during_a_removal() {
    let place = Place::new();
    let (ours, mut theirs) = (Layer::new(place.path()), Process::start(place.path()));
    assert_eq!(theirs.ask("remove"), "ran", "it runs");
    ours.while_unused(|| {
        theirs.request("acquire");
        // What would go wrong goes wrong meanwhile; that nothing is mounted at the end is checked by who calls this.
        thread::sleep(Duration::from_millis(100));
    })
    .unwrap();
    assert_eq!(theirs.answer(), "ran");
    assert_eq!(theirs.ask("release"), "ran");
}

fn a_failed_mount_takes_no_reference() {
    let place = Place::new();
    let ours = Layer::new(place.path());
    fs::remove_dir(place.target()).unwrap();
    for persistent in [false, true] {
        let failed = if persistent { ours.acquire_persistent() } else { ours.acquire() };
        assert_eq!(kind(failed), ErrorKind::Io);
        assert!(!place.has_record());
    }
    fs::create_dir(place.target()).unwrap();
    ours.while_unused(|| ()).unwrap();
    assert!(ours.acquire().unwrap());
    assert!(ours.release().unwrap());
}

fn a_failed_unmount_gives_the_reference_back() {
    let place = Place::new();
    let ours = Layer::new(place.path());
    let id = "layer".parse().unwrap();
    assert!(ours.acquire().unwrap());
    let failed =
        ours.counter().release(&id, &place.target(), || Err(Error::new(ErrorKind::Command, "fusermount")));
    assert_eq!(kind(failed), ErrorKind::Command);
    assert_eq!(kind(ours.release()), ErrorKind::InvalidArgument);
    assert!(ours.reclaim().unwrap());
    assert_eq!(place.mounts(), 0);
}

fn a_mount_that_hangs_blocks_no_other_layer() {
    let place = Place::new();
    let ours = Layer::new(place.path());
    let (started, is_started) = channel();
    let (finish, may_finish) = channel();
    thread::scope(|scope| {
        let (counter, target) = (ours.counter(), place.path().join("hanging"));
        scope.spawn(move || {
            let mount = || {
                started.send(()).unwrap();
                may_finish.recv().unwrap();
                Err(Error::new(ErrorKind::Io, "mount"))
            };
            let failed = counter.acquire(&"hanging".parse().unwrap(), &target, false, mount);
            assert_eq!(kind(failed), ErrorKind::Io);
        });
        is_started.recv().unwrap();
        assert!(ours.acquire().unwrap());
        assert!(ours.release().unwrap());
        finish.send(()).unwrap();
    });
    assert!(!place.has_record());
}

fn many_threads_of_several_processes() {
    let place = Place::new();
    let ours = Layer::new(place.path());
    let mut others = [(); 2].map(|()| Process::start(place.path()));
    for other in &mut others {
        other.request("hammer");
    }
    hammer(&ours).unwrap();
    for other in &mut others {
        assert_eq!(other.answer(), "ran");
    }
    assert_eq!(place.mounts(), 0);
    assert!(!place.has_record());
}

fn records_are_made_again_in_a_cleared_directory() {
    let place = Place::new();
    let ours = Layer::new(place.path());
    fs::remove_dir(place.path().join("run")).unwrap();
    assert!(ours.acquire().unwrap());
    fs::remove_file(place.path().join("run/layer")).unwrap();
    assert!(!ours.acquire().unwrap());
    assert_eq!(kind(Layer::new(place.path()).while_unused(|| panic!("in use"))), ErrorKind::LayerInUse);
    assert!(!ours.release().unwrap());
    assert!(!ours.release().unwrap(), "others may hold the record that was removed");
    assert!(ours.release().unwrap());
    assert!(!place.has_record());
}
