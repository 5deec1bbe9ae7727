//! Counting references to layers that are used without a mount.

use std::path::Path;

use graphdriver_core::{ErrorKind, LayerId, RefCounter, Result};

const TARGET: &str = "/nonexistent";

fn acquire(counter: &RefCounter, id: &LayerId, persistent: bool) -> Result<bool> {
    let mut ran = false;
    counter.acquire(id, Path::new(TARGET), persistent, || {
        ran = true;
        Ok(())
    })?;
    Ok(ran)
}

fn release(counter: &RefCounter, id: &LayerId) -> Result<bool> {
    let mut ran = false;
    counter.release(id, Path::new(TARGET), || {
        ran = true;
        Ok(())
    })?;
    Ok(ran)
}

fn is_used(counter: &RefCounter, id: &LayerId) -> bool {
    match counter.while_unused(id, Path::new(TARGET), || Ok(())) {
        Ok(()) => false,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::LayerInUse);
            true
        }
    }
}

/// Two counters have files open of their own, as two processes have.
#[test]
fn references_of_all_kinds_and_processes_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let [ours, theirs] = [(); 2].map(|()| RefCounter::without_mounts(dir.path().join("run")).unwrap());
    let id: LayerId = "layer".parse().unwrap();
    assert_eq!(release(&ours, &id).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert!(!is_used(&ours, &id));

    assert!(acquire(&ours, &id, false).unwrap(), "the first reference runs the action");
    assert!(!acquire(&ours, &id, false).unwrap());
    assert!(!acquire(&theirs, &id, true).unwrap());
    assert!(is_used(&ours, &id) && is_used(&theirs, &id));
    assert!(!release(&ours, &id).unwrap());
    assert!(!release(&ours, &id).unwrap(), "the persistent one is left");
    assert!(is_used(&ours, &id) && is_used(&theirs, &id));
    assert!(release(&ours, &id).unwrap(), "anybody can give it back");
    assert!(!is_used(&ours, &id) && !is_used(&theirs, &id));
    assert_eq!(release(&theirs, &id).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(std::fs::read_dir(dir.path().join("run")).unwrap().count(), 0);
}

#[test]
fn references_end_with_their_owner() {
    let dir = tempfile::tempdir().unwrap();
    let [ours, theirs] = [(); 2].map(|()| RefCounter::without_mounts(dir.path().join("run")).unwrap());
    let id: LayerId = "layer".parse().unwrap();
    acquire(&theirs, &id, false).unwrap();
    assert!(is_used(&ours, &id));
    assert_eq!(release(&ours, &id).unwrap_err().kind(), ErrorKind::InvalidArgument, "not ours to give back");
    assert!(is_used(&ours, &id));
    drop(theirs);
    assert!(!is_used(&ours, &id));
    assert!(acquire(&ours, &id, false).unwrap());
}

#[test]
fn a_failed_first_use_is_not_counted() {
    let dir = tempfile::tempdir().unwrap();
    let counter = RefCounter::without_mounts(dir.path().to_owned()).unwrap();
    let id: LayerId = "layer".parse().unwrap();
    let failed = counter
        .acquire(&id, Path::new(TARGET), false, || Err(graphdriver_core::Error::layer_unknown("mount", &id)));
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::LayerUnknown);
    assert!(!is_used(&counter, &id));
}

#[test]
fn what_prepares_each_reference_runs_with_each() {
    let dir = tempfile::tempdir().unwrap();
    let counter = RefCounter::without_mounts(dir.path().to_owned()).unwrap();
    let id: LayerId = "layer".parse().unwrap();
    let mut prepared = 0;
    for persistent in [false, false, true] {
        let prepare = || {
            prepared += 1;
            Ok(())
        };
        counter.acquire_each(&id, persistent, prepare).unwrap();
    }
    assert_eq!(prepared, 3);
    let refused = || Err(graphdriver_core::Error::layer_unknown("mount", &id));
    counter.acquire_each(&id, false, refused).unwrap_err();
    assert!(!release(&counter, &id).unwrap() && !release(&counter, &id).unwrap());
    assert!(release(&counter, &id).unwrap(), "the one that failed is not counted");
    assert!(!is_used(&counter, &id));
}
