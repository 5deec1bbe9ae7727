//! `mapped/<how>`: layers of containers/storage for containers whose ids are mapped.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use graphdriver::{IdMap, IdMaps, MountOptions};
use graphdriver_conformance::tree::Tree;

use super::Case;
use super::exchange::with_base;
use crate::agree::Shared;
use crate::bench::Bench;
use crate::needs::Need;
use crate::peer::containers_storage;
use crate::store::{done, id};
use crate::unpacker::Unpacker;

const MAP: containers_storage::IdMap = (0, 100_000, 65_536);
const FILE: &str = "etc/debian_version";

pub(super) fn cases() -> Vec<Case> {
    let case = |what: &str, run: fn(&Bench) -> Result<(), Need>| {
        Case::new(format!("mapped/{what}"), move |bench| {
            Unpacker::ContainersStorage("overlay").is_here()?;
            run(bench)
        })
    };
    vec![case("rewritten", rewritten), case("by-mount", by_mount)]
}

/// They write a file to a layer, or that of a container.
fn write(shared: &Shared, name: &str) {
    let file = shared.theirs.mount(name).join(FILE);
    fs::write(&file, "mapped\n").unwrap();
    chown(&file, Some(100_001), Some(100_002)).unwrap();
    shared.theirs.unmount(name);
}

fn maps() -> IdMaps {
    let (container_id, host_id, size) = MAP;
    let map = vec![IdMap { container_id, host_id, size }];
    IdMaps::new(map.clone(), map).unwrap()
}

/// The layer has two directories. Theirs of the changes are those of the first alone.
fn rewritten(bench: &Bench) -> Result<(), Need> {
    let shared = with_base("overlay", bench)?;
    shared.theirs.create_mapped("shifted", "base", MAP);
    assert!(shared.scratch.join("graph/overlay/shifted/diff1").is_dir());
    write(&shared, "shifted");
    let Shared { theirs, ours, scratch, .. } = &shared;
    shared.agree_on_tree("shifted");
    let tree = ours.tree("shifted");
    assert_is_mapped(&tree);

    let changes = done(ours.graph.changes(&id("shifted"), Some(&id("base")))).into_iter();
    let changes: BTreeSet<_> = changes.map(|change| (change.kind.letter(), change.path)).collect();
    let in_first: BTreeSet<_> = theirs.changes("shifted").into_iter().collect();
    assert!(in_first.contains(&('C', Path::new("/").join(FILE))));
    assert!(in_first.is_subset(&changes), "{in_first:?}");
    let all = tree.nodes.keys().filter(|path| !path.as_os_str().is_empty());
    assert_eq!(changes, all.map(|path| ('C', Path::new("/").join(path))).collect());
    assert!(done(ours.graph.diff_size(&id("shifted"), Some(&id("base")))) > theirs.diff_size("shifted"));

    let archive = scratch.join("mapped.tar");
    ours.diff("shifted", Some("base"), &archive);
    ours.fill("again", Some("base"), &archive);
    ours.tree("again").assert_same(&tree);
    Ok(())
}

/// A container's layer has what was written to it alone.
fn by_mount(bench: &Bench) -> Result<(), Need> {
    let shared = with_base("overlay", bench)?;
    let layer = shared.theirs.create_container("container", "base", MAP);
    assert!(!shared.scratch.join("graph/overlay").join(&layer).join("diff1").exists());
    write(&shared, "container");
    let Shared { theirs, ours, scratch, .. } = &shared;
    let options = MountOptions { id_maps: maps(), ..MountOptions::default() };
    let mount = done(ours.graph.mount(&id(&layer), &options));
    let tree = Tree::read_large(mount.path());
    done(mount.unmount());
    tree.assert_same(&Tree::read_large(&theirs.mount("container")));
    theirs.unmount("container");
    assert_is_mapped(&tree);
    shared.agree_on_changes(&layer, Some("base"));
    shared.agree_on_size(&layer, Some("base"));
    // They write owners to it as the machine sees them.
    shared.agree_on_diff(&layer, "base");

    let archive = scratch.join("as-seen-by-the-container.tar");
    ours.diff_mapped(&layer, Some("base"), &maps(), &archive);
    ours.fill("again", Some("base"), &archive);
    let tree = ours.tree("again");
    let file = &tree.nodes[Path::new(FILE)];
    assert_eq!((tree.contents(FILE), file.uid, file.gid), ("mapped\n".into(), 1, 2));
    Ok(())
}

fn assert_is_mapped(tree: &Tree) {
    let file = &tree.nodes[Path::new(FILE)];
    assert_eq!((tree.contents(FILE), file.uid, file.gid), ("mapped\n".into(), 100_001, 100_002));
    assert!(tree.nodes.values().skip(1).all(|node| node.uid >= 100_000), "all but the root have new owners");
}
