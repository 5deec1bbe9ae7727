//! Layers that real mounts wrote, with renamed directories and files with metadata only: what is read from the directories is what mounts show.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use graphdriver_archive::whiteout::OverlayXattrs::Trusted;
use graphdriver_archive::{
    ApplyOptions, Change, ChangeKind, CompareOptions, ContentCheck, Export, ExportOptions, LayerStack,
    RootDir, WhiteoutMode, apply, changes, layer_changes, layer_size,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::support::{Tree, snapshot};

const WRITABLE: &str = "redirect_dir=on,metacopy=on,index=on";

/// One step of an edit script. Places are numbers, so that scripts hit the same names often.
#[derive(Clone, Debug)]
enum Edit {
    Write(usize, u8),
    MakeDir(usize),
    Remove(usize),
    Rename(usize, usize),
    HardLink(usize, usize),
    Symlink(usize),
    Chmod(usize, u32),
    SetXattr(usize, u8),
}

const PLACES: [&str; 14] = [
    "a", "b", "c", "a/a", "a/b", "b/a", "b/b", "c/a", "a/a/a", "a/b/a", "b/a/a", "b/a/b", "a/a/a/a",
    "b/b/a/b",
];

fn edit(renames: u32, links: u32) -> impl Strategy<Value = Edit> {
    let place = 0..PLACES.len();
    prop_oneof![
        4 => (place.clone(), any::<u8>()).prop_map(|(at, seed)| Edit::Write(at, seed)),
        4 => place.clone().prop_map(Edit::MakeDir),
        2 => place.clone().prop_map(Edit::Remove),
        renames => (place.clone(), place.clone()).prop_map(|(from, to)| Edit::Rename(from, to)),
        links => (place.clone(), place.clone()).prop_map(|(from, to)| Edit::HardLink(from, to)),
        1 => place.clone().prop_map(Edit::Symlink),
        3 => (place.clone(), 0o700_u32..0o1000).prop_map(|(at, mode)| Edit::Chmod(at, mode)),
        1 => (place, any::<u8>()).prop_map(|(at, seed)| Edit::SetXattr(at, seed)),
    ]
}

impl Edit {
    fn run(&self, root: &Path) {
        let at = |place: usize| root.join(PLACES[place]);
        let exists = |place: usize| at(place).symlink_metadata().is_ok_and(|metadata| !metadata.is_symlink());
        let outcome = match *self {
            Self::Write(place, seed) => fs::write(at(place), vec![seed; usize::from(seed) * 7 % 100 + 1]),
            Self::MakeDir(place) => fs::create_dir(at(place)),
            Self::Remove(place) => {
                RootDir::open(root).unwrap().remove_all(Path::new(PLACES[place])).map_err(Into::into)
            }
            Self::Rename(from, to) => fs::rename(at(from), at(to)),
            Self::HardLink(from, to) => fs::hard_link(at(from), at(to)),
            Self::Symlink(place) => symlink("target", at(place)),
            Self::Chmod(place, mode) if exists(place) => {
                fs::set_permissions(at(place), Permissions::from_mode(mode))
            }
            Self::SetXattr(place, seed) if exists(place) => fs::File::open(at(place)).and_then(|file| {
                let flags = graphdriver_sys::xattr::SetFlags::empty();
                Ok(graphdriver_sys::xattr::fset(&file, "trusted.test", &[seed], flags)?)
            }),
            Self::Chmod(..) | Self::SetXattr(..) => Ok(()),
        };
        // What the tree at hand does not allow is part of the game.
        drop(outcome);
    }
}

/// A file system in memory with layers in it, the lowest first.
struct Layers {
    dir: Tree,
    count: usize,
}

/// An overlay mount, until dropped.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

impl Layers {
    fn new() -> Self {
        let dir = Tree::new();
        mount(Some("tmpfs"), &dir.path(""), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        dir.dir("merged").dir("empty").dir("old");
        Self { dir, count: 0 }
    }

    fn path(&self, layer: usize) -> PathBuf {
        self.dir.path(&format!("{layer}/diff"))
    }

    /// The options that stack the `count` lowest layers, with `top` above them.
    fn lowers(&self, count: usize, top: Option<&Path>) -> String {
        let layers = (0..count).rev().map(|layer| self.path(layer));
        let all: Vec<String> = top
            .map(Path::to_owned)
            .into_iter()
            .chain(layers)
            .chain([self.dir.path("empty")])
            .map(|path| path.to_str().unwrap().to_owned())
            .collect();
        format!("lowerdir={}", all.join(":"))
    }

    fn mount(&self, at: &str, options: &str) -> Mounted {
        let target = self.dir.path(at);
        mount(Some("overlay"), &target, Some("overlay"), MsFlags::empty(), Some(options)).unwrap();
        Mounted(target)
    }

    /// Adds a layer by editing a mount of the others.
    fn edit(&mut self, work: impl FnOnce(&Path)) {
        let layer = self.count;
        self.dir.dir(&format!("{layer}/diff")).dir(&format!("{layer}/work"));
        let (upper, work_dir) = (self.path(layer), self.dir.path(&format!("{layer}/work")));
        let lowers = self.lowers(layer, None);
        let options =
            format!("{lowers},upperdir={},workdir={},{WRITABLE}", upper.display(), work_dir.display());
        let mounted = self.mount("merged", &options);
        work(&mounted.0);
        self.count += 1;
    }

    /// The `count` lowest layers as they are shown, with `top` above them.
    fn shown(&self, count: usize, top: Option<&Path>) -> Mounted {
        let options = format!("{},redirect_dir=follow,metacopy=on", self.lowers(count, top));
        self.mount(if top.is_some() { "old" } else { "merged" }, &options)
    }

    fn stack(&self, count: usize) -> LayerStack {
        let roots = (0..count).rev().map(|layer| RootDir::open(self.path(layer)).unwrap()).collect();
        LayerStack::overlay(roots, Trusted)
    }

    /// Checks the `own` layers below the one numbered `count` against the lower ones.
    fn check(&self, count: usize, own: usize, links: bool) {
        let base = count - own;
        let new = self.shown(count, None);
        let expected = nodes(&new.0, links);
        let old_dir = self.dir.path("nothing");
        fs::create_dir_all(&old_dir).unwrap();
        let old = self.shown(base, Some(&old_dir));
        let before = nodes(&old.0, false);
        let (new_root, old_root) = (RootDir::open(&new.0).unwrap(), RootDir::open(&old.0).unwrap());
        // Files that were written within one step of the clock look the same.
        let options = CompareOptions { content: ContentCheck::Content, ..CompareOptions::default() };
        let by_walking = changes(&new_root, Some(&old_root), &options).unwrap();
        let stack = self.stack(count);
        let native = layer_changes(&stack, own).unwrap();
        let after = nodes(&new.0, false);
        told(&native, &before, &after);
        told(&by_walking, &before, &after);
        let mut archive = Vec::new();
        Export::layer(&stack, own, ExportOptions::default()).read_to_end(&mut archive).unwrap();
        assert_eq!(layer_size(&stack, own).unwrap(), bytes_in(&archive));
        drop(old);
        let mut walked = Vec::new();
        Export::changes(&new_root, by_walking, ExportOptions::default()).read_to_end_into(&mut walked);
        drop(new);
        for archive in [archive, walked] {
            self.dir.remove("applied").dir("applied");
            let applied = self.dir.path("applied");
            let options = ApplyOptions {
                whiteouts: WhiteoutMode::Overlay(Trusted),
                lowers: (0..base).rev().map(|layer| RootDir::open(self.path(layer)).unwrap()).collect(),
                ..ApplyOptions::default()
            };
            apply(&RootDir::open(&applied).unwrap(), &mut &archive[..], &options).unwrap();
            let again = self.shown(base, Some(&applied));
            assert_eq!(nodes(&again.0, links), expected, "native: {native:?}");
        }
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        umount2(&self.dir.path(""), MntFlags::MNT_DETACH).unwrap();
    }
}

trait ReadInto {
    fn read_to_end_into(self, bytes: &mut Vec<u8>);
}

impl ReadInto for graphdriver_archive::Result<Export> {
    fn read_to_end_into(self, bytes: &mut Vec<u8>) {
        self.unwrap().read_to_end(bytes).unwrap();
    }
}

type Nodes = BTreeMap<PathBuf, String>;

/// What is to be known about each file; `links` says whether the names that files share count.
fn nodes(root: &Path, links: bool) -> Nodes {
    let line = |line: String| {
        let (name, rest) = line[1..].split_once("\" ").unwrap();
        let mut fields: Vec<&str> = rest.split(' ').collect();
        if !links {
            fields.remove(5);
        }
        (PathBuf::from(name), fields.join(" "))
    };
    snapshot(root).into_iter().map(line).collect()
}

/// Of all files; a symbolic link's are those of its target.
fn bytes_in(archive: &[u8]) -> u64 {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(Result::unwrap);
    let bytes = entries.map(|entry| match entry.link_name_bytes() {
        Some(target) if entry.header().entry_type().is_symlink() => target.len() as u64,
        _ => entry.size(),
    });
    bytes.sum()
}

fn is_dir(node: &str) -> bool {
    node.starts_with('4')
}

/// Checks that the list of changes tells everything that differs, and nothing that cannot be.
fn told(changes: &[Change], before: &Nodes, after: &Nodes) {
    let kinds: BTreeMap<&Path, ChangeKind> =
        changes.iter().map(|change| (change.path.strip_prefix("/").unwrap(), change.kind)).collect();
    for (path, kind) in &kinds {
        let right = match kind {
            ChangeKind::Add | ChangeKind::Modify => after.contains_key(*path),
            ChangeKind::Delete => {
                before.contains_key(*path) && after.get(*path).is_none_or(|node| is_dir(node))
            }
        };
        assert!(right, "{kind:?} {path:?} is not so; all: {changes:?}");
    }
    let is_replaced = |path: &Path| {
        path.ancestors().skip(1).any(|dir| {
            kinds.get(dir) == Some(&ChangeKind::Delete) || after.get(dir).is_some_and(|node| !is_dir(node))
        })
    };
    for path in before.keys().chain(after.keys()) {
        let kind = kinds.get(path.as_path());
        let right = match (before.get(path), after.get(path)) {
            (Some(_), None) => kind == Some(&ChangeKind::Delete) || is_replaced(path),
            (None, Some(_)) => kind == Some(&ChangeKind::Add),
            (one, other) => kind.is_some() || one == other,
        };
        assert!(
            right,
            "{path:?} is not listed: {:?} became {:?}; all: {changes:?}",
            before.get(path),
            after.get(path)
        );
    }
}

fn random_scripts(cases: u32, renames: u32, links: u32) {
    let script = || prop::collection::vec(edit(renames, links), 1..20);
    // The same scripts in every run: what fails must fail again.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 300, ..Config::default() };
    TestRunner::new_with_rng(config, rng)
        .run(&[script(), script(), script(), script()], |scripts| {
            let mut layers = Layers::new();
            layers.edit(furnish);
            for script in &scripts {
                layers.edit(|root| script.iter().for_each(|edit| edit.run(root)));
            }
            let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for count in 2..=layers.count {
                    layers.check(count, 1, renames == 0);
                }
                layers.check(layers.count, 2, renames == 0);
                layers.check(layers.count, layers.count, renames == 0);
            }));
            checked.map_err(|panic| {
                TestCaseError::fail(panic.downcast_ref::<String>().cloned().unwrap_or_default())
            })
        })
        .unwrap();
}

/// A tree on three levels, so that there is something to rename from the first step on.
fn furnish(root: &Path) {
    for dir in ["a", "a/a", "b", "b/a", "b/b"] {
        fs::create_dir(root.join(dir)).unwrap();
        fs::write(root.join(dir).join("file"), format!("of {dir}")).unwrap();
    }
    for file in ["a/b", "a/a/a", "b/a/b", "c"] {
        fs::write(root.join(file), format!("{file} at first")).unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn random_renames_in_several_layers() {
    random_scripts(160, 6, 0);
}

#[test]
#[ignore = "needs root"]
fn random_renames_and_links() {
    random_scripts(60, 4, 2);
}

#[test]
#[ignore = "needs root"]
fn random_changes_of_linked_files() {
    random_scripts(60, 0, 3);
}

/// Does `first` and `second` as layers of their own on a furnished one, and checks each and both together.
fn check_two(first: impl FnOnce(&Path), second: impl FnOnce(&Path)) -> Layers {
    let mut layers = Layers::new();
    layers.edit(furnish);
    layers.edit(first);
    layers.edit(second);
    layers.check(2, 1, false);
    layers.check(3, 1, false);
    layers.check(3, 2, false);
    layers
}

fn rename(root: &Path, from: &str, to: &str) {
    fs::rename(root.join(from), root.join(to)).unwrap();
}

#[test]
#[ignore = "needs root"]
fn a_directory_renamed_within_a_renamed_one() {
    let layers = check_two(
        |root| {
            rename(root, "b", "d");
            rename(root, "d/a", "d/x");
        },
        |root| {
            rename(root, "d/x", "a/y");
            rename(root, "d", "b");
        },
    );
    // Redirects there are, or this says nothing.
    let stored = graphdriver_sys::xattr::fget(
        fs::File::open(layers.path(2).join("a/y")).unwrap(),
        "trusted.overlay.redirect",
    );
    assert!(stored.unwrap().is_some_and(|value| value.starts_with(b"/")));
}

#[test]
#[ignore = "needs root"]
fn a_renamed_directory_is_replaced_and_comes_back() {
    check_two(
        |root| {
            rename(root, "a", "x");
            fs::create_dir(root.join("a")).unwrap();
            fs::write(root.join("a/new"), "").unwrap();
        },
        |root| {
            RootDir::open(root).unwrap().remove_all(Path::new("a")).unwrap();
            rename(root, "x", "a");
            RootDir::open(root).unwrap().remove_all(Path::new("a/a")).unwrap();
            fs::create_dir(root.join("a/a")).unwrap();
        },
    );
}

#[test]
#[ignore = "needs root"]
fn only_the_mode_of_a_large_file_changes() {
    let big = |root: &Path| fs::write(root.join("big"), vec![7; 3_000_000]).unwrap();
    let layers = check_two(big, |root| {
        fs::set_permissions(root.join("big"), Permissions::from_mode(0o640)).unwrap();
        fs::hard_link(root.join("big"), root.join("also")).unwrap();
    });
    let big = fs::File::open(layers.path(2).join("big")).unwrap();
    assert!(graphdriver_sys::xattr::fget(&big, "trusted.overlay.metacopy").unwrap().is_some());
}
