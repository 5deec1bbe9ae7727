//! Whatever is done to a layer, its archive does it again.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use graphdriver_archive::{IdMaps, RootDir};
use graphdriver_core::{Change, ChangeKind, LayerId, MountOptions, naive};
use graphdriver_sys::xattr::{self, SetFlags};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::configuration::Driver;
use crate::store::Store;
use crate::tree::{Node, Times, Tree};

/// One step of an edit script. Places are numbers, so that scripts hit the same names often.
#[derive(Clone, Debug)]
enum Edit {
    Write(usize, u8),
    MakeDir(usize),
    Remove(usize),
    Rename(usize, usize),
    HardLink(usize, usize),
    Symlink(usize, u8),
    Chmod(usize, u32),
    SetXattr(usize, u8),
    RemoveXattr(usize),
}

/// Three levels, in which every name can be a file in one layer and a directory in the next.
const PLACES: [&str; 12] =
    ["a", "b", "c", "a/a", "a/b", "b/a", "b/b", "c/a", "a/a/a", "a/b/a", "b/a/a", "b/a/b"];

fn edit() -> impl Strategy<Value = Edit> {
    let place = 0..PLACES.len();
    prop_oneof![
        4 => (place.clone(), any::<u8>()).prop_map(|(at, seed)| Edit::Write(at, seed)),
        4 => place.clone().prop_map(Edit::MakeDir),
        3 => place.clone().prop_map(Edit::Remove),
        2 => (place.clone(), place.clone()).prop_map(|(from, to)| Edit::Rename(from, to)),
        2 => (place.clone(), place.clone()).prop_map(|(from, to)| Edit::HardLink(from, to)),
        1 => (place.clone(), any::<u8>()).prop_map(|(at, seed)| Edit::Symlink(at, seed)),
        2 => (place.clone(), 0o500_u32..0o1000).prop_map(|(at, mode)| Edit::Chmod(at, mode)),
        1 => (place.clone(), any::<u8>()).prop_map(|(at, seed)| Edit::SetXattr(at, seed)),
        1 => place.prop_map(Edit::RemoveXattr),
    ]
}

impl Edit {
    /// Carries the step out; one that makes no sense on the present tree does nothing.
    fn run(&self, root: &Path) {
        let at = |place: usize| root.join(PLACES[place]);
        let outcome = match *self {
            Self::Write(place, seed) => fs::write(at(place), vec![seed; usize::from(seed) * 7 % 100]),
            Self::MakeDir(place) => fs::create_dir(at(place)),
            Self::Remove(place) => remove(&at(place)),
            Self::Rename(from, to) => rename(&at(from), &at(to)),
            Self::HardLink(from, to) => fs::hard_link(at(from), at(to)),
            Self::Symlink(place, seed) => symlink(format!("target-{seed}"), at(place)),
            // Execute for the owner always, or an ordinary user could not read his own tree.
            Self::Chmod(place, mode) => match at(place).symlink_metadata() {
                Ok(metadata) if !metadata.is_symlink() => {
                    fs::set_permissions(at(place), Permissions::from_mode(mode | 0o700))
                }
                _ => Ok(()),
            },
            Self::SetXattr(place, seed) => with_parent(&at(place), |dir, name| {
                xattr::set_at(dir, name, "user.test", &[seed], SetFlags::empty())
            }),
            Self::RemoveXattr(place) => {
                with_parent(&at(place), |dir, name| xattr::remove_at(dir, name, "user.test"))
            }
        };
        // What the tree at hand does not allow (a missing directory, a file in the way) is part of the game.
        drop(outcome);
    }
}

fn with_parent(
    path: &Path,
    work: impl FnOnce(&File, &std::ffi::OsStr) -> nix::Result<()>,
) -> std::io::Result<()> {
    let dir = File::open(path.parent().unwrap())?;
    Ok(work(&dir, path.file_name().unwrap())?)
}

fn remove(path: &Path) -> std::io::Result<()> {
    let root = RootDir::open(path.parent().unwrap()).map_err(std::io::Error::from)?;
    root.remove_all(Path::new(path.file_name().unwrap())).map_err(Into::into)
}

/// As `mv` does it: overlay without redirects refuses to rename a directory of a lower layer, and programs copy then.
fn rename(from: &Path, to: &Path) -> std::io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {
            let metadata = from.symlink_metadata()?;
            fs::create_dir(to)?;
            fs::set_permissions(to, metadata.permissions())?;
            remove(from)
        }
        result => result,
    }
}

/// Scripts, with the one that makes the base first.
fn scripts() -> impl Strategy<Value = [Vec<Edit>; 3]> {
    let script = || prop::collection::vec(edit(), 1..25);
    [script(), script(), script()]
}

/// For each of three layers on each other: the diff of the driver and the diff of walking both trees make, on a fresh child of the parent, what the layer shows.
pub fn round_trip(store: &Store) {
    // Each step runs programs there, and a guest is slow.
    let cases = if store.configuration().driver == Driver::Zfs { 4 } else { 12 };
    // The same scripts in every run: what fails must fail again.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    TestRunner::new_with_rng(config, rng)
        .run(&scripts(), |scripts| {
            let made = make(store, &scripts);
            let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(store, &made)));
            made.iter().rev().for_each(|layer| store.remove(layer));
            checked.map_err(|panic| TestCaseError::fail(message(&*panic)))
        })
        .unwrap();
}

/// How many scripts [`native_is_naive`] runs; some hundreds show what is rare.
const SCRIPTS: &str = "GRAPHDRIVER_EDIT_SCRIPTS";

/// How many of them edit the same pair of layers, one after the other.
const OF_A_PAIR: u32 = 8;

/// Where only what was changed is looked at, the list is the one that looking at everything gives, whichever of the two layers was edited since they parted.
pub fn native_is_naive(store: &Store) {
    let count: u32 = env::var(SCRIPTS).map_or(3 * OF_A_PAIR, |count| count.parse().unwrap());
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let cases = count.div_ceil(OF_A_PAIR);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 100, ..Config::default() };
    let script = || prop::collection::vec(edit(), 1..25);
    let of_pair = prop::collection::vec((prop::bool::weighted(0.25), script()), OF_A_PAIR as usize);
    TestRunner::new_with_rng(config, rng)
        .run(&(script(), of_pair), |(first, scripts)| {
            let base = make(store, &[first]).remove(0);
            let layer = store.create("layer", Some(&base));
            let mounts =
                [&base, &layer].map(|layer| store.graph().mount(layer, &MountOptions::default()).unwrap());
            let mut wrong = None;
            for (is_of_base, script) in &scripts {
                let root = mounts[usize::from(!is_of_base)].path();
                for edit in script {
                    edit.run(root);
                }
                let native = store.graph().driver().native_diff().unwrap();
                let by_driver = native.changes(&layer, Some(&base)).unwrap().expect("a pair that is native");
                let by_walking = naive::changes(store.graph(), &layer, Some(&base)).unwrap();
                if by_driver != by_walking {
                    wrong = Some((by_driver, by_walking));
                    break;
                }
            }
            for mount in mounts {
                mount.unmount().unwrap();
            }
            store.remove(&layer);
            store.remove(&base);
            prop_assert!(wrong.is_none(), "by driver, by walking: {:?}", wrong);
            Ok(())
        })
        .unwrap();
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "see above".to_owned())
}

fn make(store: &Store, scripts: &[Vec<Edit>]) -> Vec<LayerId> {
    let mut made: Vec<LayerId> = Vec::new();
    for (index, script) in scripts.iter().enumerate() {
        let layer = store.create(&format!("layer-{index}"), made.last());
        store.edit(&layer, |root| script.iter().for_each(|edit| edit.run(root)));
        store.tick();
        made.push(layer);
    }
    made
}

fn check(store: &Store, made: &[LayerId]) {
    let parents = std::iter::once(None).chain(made.iter().map(Some));
    // And the uppermost against those further down.
    let further = made.iter().rev().skip(2).map(Some).chain([None]);
    let far = made.last().into_iter().cycle().zip(further);
    for (layer, parent) in made.iter().zip(parents).chain(far) {
        let expected = store.tree(layer, Times::Seconds);
        let by_driver = store.diff(layer, parent);
        same_after(store, parent, &by_driver, &expected);
        let mut walked = naive::diff(store.graph(), layer, parent, &IdMaps::default()).unwrap();
        let mut by_walking = Vec::new();
        std::io::Read::read_to_end(&mut walked, &mut by_walking).unwrap();
        walked.finish().unwrap();
        same_after(store, parent, &by_walking, &expected);
        let before = parent.map(|parent| store.tree(parent, Times::Seconds).nodes).unwrap_or_default();
        told(&store.graph().changes(layer, parent).unwrap(), &before, &expected.nodes);
        told(&naive::changes(store.graph(), layer, parent).unwrap(), &before, &expected.nodes);
    }
}

type Nodes = BTreeMap<PathBuf, Node>;

/// Checks that the list of changes tells everything that differs, and nothing that cannot be.
///
/// Lists that are equally right need not be equal: a directory that was deleted and made again is one change for overlay, which marks it opaque, and changes of its entries
/// for who compares; and whether the directories above a changed file are listed is the driver's choice.
fn told(changes: &[Change], before: &Nodes, after: &Nodes) {
    let kinds: BTreeMap<&Path, ChangeKind> =
        changes.iter().map(|change| (change.path.strip_prefix("/").unwrap(), change.kind)).collect();
    assert!(changes.is_sorted(), "{changes:?}");
    for change in changes {
        let path = change.path.strip_prefix("/").unwrap();
        let right = match change.kind {
            ChangeKind::Add | ChangeKind::Modify => after.contains_key(path),
            ChangeKind::Delete => before.contains_key(path) && after.get(path).is_none_or(Node::is_dir),
        };
        assert!(right, "{change} is not so; all: {changes:?}");
    }
    let is_replaced = |path: &Path| {
        let mut above = path.ancestors().skip(1);
        above.any(|dir| {
            kinds.get(dir) == Some(&ChangeKind::Delete) || after.get(dir).is_some_and(|node| !node.is_dir())
        })
    };
    for path in before.keys().chain(after.keys()).filter(|path| !path.as_os_str().is_empty()) {
        let kind = kinds.get(path.as_path());
        let right = match (before.get(path), after.get(path)) {
            (Some(_), None) => kind == Some(&ChangeKind::Delete) || is_replaced(path),
            (None, Some(_)) => kind == Some(&ChangeKind::Add),
            (Some(old), Some(new)) => kind.is_some() || old.same_but_for_time(new),
            (None, None) => true,
        };
        assert!(
            right,
            "{path:?} is not listed: {:?} became {:?}; all: {changes:?}",
            before.get(path),
            after.get(path)
        );
    }
}

/// Applies the archive in both ways to children of `parent`.
fn same_after(store: &Store, parent: Option<&LayerId>, archive: &[u8], expected: &Tree) {
    let filled = store.fill("filled", parent, archive);
    let applied = store.create("applied", parent);
    store.apply(&applied, archive);
    let trees = [&filled, &applied].map(|layer| store.tree(layer, Times::Seconds));
    // Removed before anything can fail, for the next script.
    store.remove(&filled);
    store.remove(&applied);
    for tree in trees {
        tree.assert_same(expected);
    }
}
