//! `mount-program/fuse-overlayfs`: a home of containers/storage whose layers are mounted by that program, and have whiteouts in another form.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use graphdriver::{LayerApplyOptions, OpenOptions};

use super::Case;
use crate::agree::Shared;
use crate::bench::Bench;
use crate::differences::{Peer, made_by};
use crate::edit::remove_tree;
use crate::needs::{Need, program};
use crate::peer::{containers_storage, gnu_tar};
use crate::store::{Store, done, id};
use crate::unpacker::Unpacker;

const OPTION: &str = "overlay.mount_program=/usr/bin/fuse-overlayfs";
const LOWER: [&str; 5] = ["dir/gone", "dir/kept", "hidden/old", "edited", "removed"];
const UPPER: [&str; 4] = ["dir/.wh.gone", "hidden/.wh..wh..opq", "hidden/new", "added"];

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("mount-program/fuse-overlayfs".to_owned(), fuse_overlayfs)]
}

/// They apply two layers and edit a third; then we fill a layer that they made.
fn fuse_overlayfs(bench: &Bench) -> Result<(), Need> {
    Unpacker::ContainersStorage("overlay").is_here()?;
    program("fuse-overlayfs")?;
    let scratch = bench.stage.scratch()?;
    let theirs = containers_storage::Store::with_option("overlay", scratch.path(), Some(OPTION));
    let upper = archive(scratch.path(), "upper", &UPPER);
    theirs.fill("lower", None, &archive(scratch.path(), "lower", &LOWER));
    theirs.fill("upper", Some("lower"), &upper);
    theirs.create("edited", Some("upper"));
    edit(&theirs.mount("edited"));
    theirs.unmount("edited");
    theirs.create("ours", Some("lower"));

    let options = OpenOptions::new(scratch.join("graph"), scratch.join("run-of-ours"));
    let ours = Store::open_with("overlay", &options.with_options([OPTION.parse().unwrap()]));
    let shared = Shared { driver: "overlay", theirs, ours, scratch };
    let mut upper = File::open(upper).unwrap();
    done(shared.ours.graph.apply(&id("ours"), &mut upper, &LayerApplyOptions::default()));
    shared.agree_on("edited", Some("upper"));
    for layer in ["upper", "ours"] {
        shared.agree_on_tree(layer);
        shared.agree_on_size(layer, Some("lower"));
        shared.agree_on_diff(layer, "lower");
    }
    // It compares trees, and says of an opaque directory what of the old is missing in it.
    let theirs = ["ours", "upper"].map(|layer| BTreeSet::from_iter(shared.theirs.changes(layer)));
    assert_eq!(theirs[0], theirs[1]);
    let changes = |layer| done(shared.ours.graph.changes(&id(layer), Some(&id("lower"))));
    assert_eq!(changes("ours"), changes("upper"));
    let whiteout = shared.scratch.join("graph/overlay/ours/diff/dir/.wh.gone");
    assert!(fs::symlink_metadata(whiteout).unwrap().is_file());
    let ours = made_by(Peer::ContainersStorage, &shared.ours.tree("ours"));
    ours.assert_same(&shared.ours.tree("upper"));
    Ok(())
}

fn edit(root: &Path) {
    fs::write(root.join("edited"), "edited\n").unwrap();
    fs::remove_file(root.join("removed")).unwrap();
    remove_tree(&root.join("hidden"));
}

/// An archive of empty files, with an entry for its root.
fn archive(dir: &Path, name: &str, files: &[&str]) -> PathBuf {
    let (tree, archive) = (dir.join(name), dir.join(format!("{name}.tar")));
    for file in files {
        let path = tree.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    gnu_tar::create(&tree, &["."], &archive);
    archive
}
