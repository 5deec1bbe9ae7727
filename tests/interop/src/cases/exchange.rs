//! `exchange/<what>`: homes of containers/storage in which layers of both lie on each other.

use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::Path;

use graphdriver::{CreateOptions, LayerApplyOptions, LayerKind, MountOptions, Quota};
use graphdriver_sys::btrfs::qgroup;

use super::Case;
use crate::agree::Shared;
use crate::bench::Bench;
use crate::edit::edit_but_keep_files;
use crate::needs::Need;
use crate::peer::{containers_storage, gnu_tar};
use crate::store::{Store, done, id};
use crate::unpacker::Unpacker;

pub(super) fn cases() -> Vec<Case> {
    let case = |driver: &'static str, what: &str, run: Run| {
        Case::new(format!("exchange/{driver}/{what}"), move |bench| {
            Unpacker::ContainersStorage(driver).is_here()?;
            run(driver, bench)
        })
    };
    let both = ["btrfs", "overlay"]
        .into_iter()
        .flat_map(|driver| [case(driver, "filled", filled), case(driver, "made-anew", made_anew)]);
    both.chain([case("overlay", "130-layers", deep), case("btrfs", "limits", limits)]).collect()
}

type Run = fn(&'static str, &Bench) -> Result<(), Need>;

/// A home in which containers/storage has made the layer `base` of an archive.
pub(super) fn with_base(driver: &'static str, bench: &Bench) -> Result<Shared, Need> {
    let archive = bench.archives(&["base"])?;
    Ok(Shared::new(driver, bench.stage.scratch_for(driver)?, |theirs| {
        theirs.fill("base", None, &archive[0].1);
    }))
}

/// They make a layer, we fill it.
fn filled(driver: &'static str, bench: &Bench) -> Result<(), Need> {
    let archives = bench.archives(&["meta"])?;
    let shared = with_base(driver, bench)?;
    shared.theirs.create("layer", Some("base"));
    let mut archive = fs::File::open(&archives[0].1).unwrap();
    // Both say what the layer is. That ours also has the archive itself is another case.
    let options = LayerApplyOptions { skip_record: true, ..LayerApplyOptions::default() };
    done(shared.ours.graph.apply(&id("layer"), &mut archive, &options));
    shared.agree_on("layer", Some("base"));
    Ok(())
}

/// They know layers by their ids that we have removed and made anew, one of an archive and one by writing to its mount. Then theirs lie on ours.
fn made_anew(driver: &'static str, bench: &Bench) -> Result<(), Need> {
    let archives = bench.archives(&["meta"])?;
    let shared = with_base(driver, bench)?;
    let Shared { theirs, ours, .. } = &shared;
    theirs.create("filled", Some("base"));
    theirs.create("edited", Some("filled"));
    for layer in ["edited", "filled"] {
        done(ours.graph.remove(&id(layer)));
    }
    ours.fill_without_record("filled", Some("base"), &archives[0].1);
    ours.edit("edited", "filled", edit_but_keep_files);
    shared.agree_on("filled", Some("base"));
    shared.agree_on("edited", Some("filled"));

    theirs.create("above", Some("edited"));
    fs::write(theirs.mount("above").join("etc/hostname"), "above\n").unwrap();
    theirs.unmount("above");
    assert_eq!(done(ours.graph.parent(&id("above"))), Some(id("edited")));
    shared.agree_on("above", Some("edited"));

    for layer in ["above", "edited", "filled"] {
        theirs.delete(layer);
        assert!(!done(ours.graph.exists(&id(layer))));
    }
    assert_eq!(done(ours.graph.layers()), [id("base")]);
    if driver == "overlay" {
        let links = fs::read_dir(shared.scratch.join("graph/overlay/l")).unwrap().count();
        assert_eq!(links, 1, "they have removed our layers' links too");
    }
    Ok(())
}

/// A layer that we limit is one that they limit. (Their command makes none of its own: that takes the engine's API.)
fn limits(driver: &'static str, bench: &Bench) -> Result<(), Need> {
    const LIMIT: usize = 20 << 20;
    let scratch = bench.stage.scratch_for(driver)?;
    // With it, quotas are on as long as they have the home open, and limits are renewed with each mount.
    let theirs = containers_storage::Store::with_option(driver, scratch.path(), Some("btrfs.min_space=1m"));
    // They know layers by their ids.
    theirs.create("layer", None);
    let ours = Store::open(driver, scratch.path());
    done(ours.graph.remove(&id("layer")));
    let quota = Quota { bytes: Some(LIMIT as u64), inodes: None };
    let create = CreateOptions { kind: LayerKind::ReadWrite, quota, ..CreateOptions::default() };
    done(ours.graph.create(&id("layer"), &create));
    let note = scratch.join("graph/btrfs/quotas/layer");
    assert_eq!(fs::read_to_string(&note).unwrap(), LIMIT.to_string());
    // Where quotas are turned off, limits are forgotten.
    let volume = fs::File::open(scratch.path()).unwrap();
    let is_limited = |path: &Path| {
        let written = write(&path.join("file"), 2 * LIMIT);
        fs::remove_file(path.join("file")).unwrap();
        nix::unistd::syncfs(&volume).unwrap();
        (LIMIT / 2..LIMIT).contains(&written)
    };
    assert!(is_limited(&scratch.join("graph/btrfs/subvolumes/layer")));
    qgroup::disable(&volume).unwrap();
    assert!(!is_limited(&scratch.join("graph/btrfs/subvolumes/layer")));
    assert!(is_limited(&theirs.mount("layer")));
    theirs.unmount("layer");
    qgroup::disable(&volume).unwrap();
    let mount = done(ours.graph.mount(&id("layer"), &MountOptions::default()));
    assert!(is_limited(mount.path()));
    done(mount.unmount());
    theirs.delete("layer");
    assert!(!note.exists());
    Ok(())
}

/// Writes until it must stop, and tells how far it got.
fn write(path: &Path, bytes: usize) -> usize {
    let mut file = fs::File::create(path).unwrap();
    let chunk = vec![7; 1 << 16];
    let mut written = 0;
    while written < bytes {
        if file.write_all(&chunk).and_then(|()| file.sync_data()).is_err() {
            break;
        }
        written += chunk.len();
    }
    written
}

/// 130 layers, ten of them ours. Theirs are mounted up to the depth that they allow, ours at any.
fn deep(driver: &'static str, bench: &Bench) -> Result<(), Need> {
    const ALL: usize = 130;
    const OURS: Range<usize> = 100..110;
    /// So many layers below the mounted one are allowed in version 1.43; later ones allow 500, as the kernel does.
    const THEIR_DEPTH: usize = 128;
    let scratch = bench.stage.scratch()?;
    let archives: Vec<_> = (0..ALL).map(|index| small_archive(scratch.path(), index)).collect();
    let name = |index: usize| format!("layer-{index}");
    let parent = |index: usize| index.checked_sub(1).map(name);
    let shared = Shared::new(driver, scratch, |_| ());
    for (index, archive) in archives.iter().enumerate() {
        if OURS.contains(&index) {
            shared.theirs.create(&name(index), parent(index).as_deref());
            done(shared.ours.graph.remove(&id(&name(index))));
            shared.ours.fill(&name(index), parent(index).as_deref(), archive);
        } else {
            shared.theirs.import(&name(index), parent(index).as_deref(), archive);
        }
    }
    for index in [0, 1, OURS.start, OURS.end - 1, OURS.end, THEIR_DEPTH] {
        shared.agree_on(&name(index), parent(index).as_deref());
    }
    let top = ALL - 1;
    shared.agree_on_changes(&name(top), parent(top).as_deref());
    let tree = shared.ours.tree(&name(top));
    assert_eq!(tree.contents("shared"), top.to_string());
    for index in 0..ALL {
        assert_eq!(tree.contents(&format!("file-{index}")), index.to_string());
    }
    Ok(())
}

/// An archive with a file of its own and one that every layer replaces.
fn small_archive(dir: &Path, index: usize) -> std::path::PathBuf {
    let (tree, archive) = (dir.join(format!("tree-{index}")), dir.join(format!("{index}.tar")));
    fs::create_dir(&tree).unwrap();
    let names = [format!("file-{index}"), "shared".to_owned()];
    for name in &names {
        fs::write(tree.join(name), index.to_string()).unwrap();
    }
    gnu_tar::create(&tree, &names.each_ref().map(String::as_str), &archive);
    archive
}
