//! `exchange/<what>`: homes of containers/storage in which layers of both lie on each other.

use std::fs;
use std::ops::Range;
use std::path::Path;

use graphdriver::LayerApplyOptions;

use super::Case;
use crate::agree::Shared;
use crate::bench::Bench;
use crate::edit::edit_but_keep_files;
use crate::needs::Need;
use crate::peer::gnu_tar;
use crate::store::{done, id};
use crate::unpacker::Unpacker;

pub(super) fn cases() -> Vec<Case> {
    let case = |what: &str, run: fn(&Bench) -> Result<(), Need>| {
        Case::new(format!("exchange/{what}"), move |bench| {
            Unpacker::ContainersStorage("overlay").is_here()?;
            run(bench)
        })
    };
    vec![case("filled", filled), case("made-anew", made_anew), case("130-layers", deep)]
}

/// A home in which containers/storage has made the layer `base` of an archive.
pub(super) fn with_base(bench: &Bench) -> Result<Shared, Need> {
    let archive = bench.archives(&["base"])?;
    Ok(Shared::new("overlay", bench.stage.scratch()?, |theirs| theirs.fill("base", None, &archive[0].1)))
}

/// They make a layer, we fill it.
fn filled(bench: &Bench) -> Result<(), Need> {
    let archives = bench.archives(&["meta"])?;
    let shared = with_base(bench)?;
    shared.theirs.create("layer", Some("base"));
    let mut archive = fs::File::open(&archives[0].1).unwrap();
    // Both say what the layer is. That ours also has the archive itself is another case.
    let options = LayerApplyOptions { skip_record: true, ..LayerApplyOptions::default() };
    done(shared.ours.graph.apply(&id("layer"), &mut archive, &options));
    shared.agree_on("layer", Some("base"));
    Ok(())
}

/// They know layers by their ids that we have removed and made anew, one of an archive and one by writing to its mount. Then theirs lie on ours.
fn made_anew(bench: &Bench) -> Result<(), Need> {
    let archives = bench.archives(&["meta"])?;
    let shared = with_base(bench)?;
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
    let links = fs::read_dir(shared.scratch.join("graph/overlay/l")).unwrap().count();
    assert_eq!(links, 1, "they have removed our layers' links too");
    Ok(())
}

/// 130 layers, ten of them ours. Theirs are mounted up to the depth that they allow, ours at any.
fn deep(bench: &Bench) -> Result<(), Need> {
    const ALL: usize = 130;
    const OURS: Range<usize> = 100..110;
    /// So many layers below the mounted one are allowed in version 1.43; later ones allow 500, as the kernel does.
    const THEIR_DEPTH: usize = 128;
    let scratch = bench.stage.scratch()?;
    let archives: Vec<_> = (0..ALL).map(|index| small_archive(scratch.path(), index)).collect();
    let name = |index: usize| format!("layer-{index}");
    let parent = |index: usize| index.checked_sub(1).map(name);
    let shared = Shared::new("overlay", scratch, |_| ());
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
