//! `podman/<what>`: containers on layers whose contents we applied.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::Case;
use crate::bench::Bench;
use crate::needs::Need;
use crate::peer::gnu_tar;
use crate::peer::podman::{self, Podman};
use crate::shell;
use crate::store::{Store, done, id};

/// What podman makes in a container's layer to mount things on, and does not tell of.
const HIDDEN: [&str; 8] =
    ["/dev", "/etc/hostname", "/etc/hosts", "/etc/mtab", "/proc", "/run", "/run/.containerenv", "/sys"];

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("podman/run".to_owned(), run)]
}

/// podman imports an image and commits another one on it; we make both their layers anew. It runs a container, whose changes we tell as it does.
fn run(bench: &Bench) -> Result<(), Need> {
    podman::is_here()?;
    let scratch = bench.stage.scratch()?;
    let podman = Podman::new(scratch.path());
    let base = scratch.join("base.tar");
    shell::make_archive(&base);
    podman.ask(&["import", base.to_str().unwrap(), "localhost/base"]);
    podman.run(Some("first"), "localhost/base", "echo theirs > /file");
    podman.ask(&["commit", "first", "localhost/top"]);
    podman.ask(&["rm", "first"]);

    let ours = Store::open_root("overlay", &podman.graph(), &scratch.join("run-of-ours"));
    let layers = done(ours.graph.layers());
    let is_top = |layer: &&graphdriver::LayerId| done(ours.graph.parent(layer)).is_some();
    let (top, bottom): (Vec<_>, Vec<_>) = layers.iter().partition(is_top);
    let ([top], [bottom]) = (&top[..], &bottom[..]) else { panic!("two layers, not {layers:?}") };
    for layer in [top, bottom] {
        done(ours.graph.remove(layer));
    }
    ours.fill(bottom.as_str(), None, &base);
    let (files, archive) = (scratch.dir("files"), scratch.join("ours.tar"));
    for name in ["file", "other"] {
        fs::write(files.join(name), format!("{name} of ours\n")).unwrap();
    }
    gnu_tar::create(&files, &["file", "other"], &archive);
    ours.fill(top.as_str(), Some(bottom.as_str()), &archive);

    assert_eq!(podman.run(None, "localhost/top", "cat /file /other"), "file of ours\nother of ours\n");
    let printed = podman.run(Some("second"), "localhost/top", "rm /other; echo more > /more; cat /more");
    assert_eq!(printed, "more\n");
    let inspect = ["inspect", "--format", "{{.GraphDriver.Data.UpperDir}}", "second"];
    let upper = podman.ask(&inspect);
    let container = Path::new(upper.trim_end()).parent().unwrap().file_name().unwrap();
    let container = id(container.to_str().unwrap());
    assert_eq!(done(ours.graph.parent(&container)).as_ref(), Some(*top));
    let changes = done(ours.graph.changes(&container, Some(top))).into_iter();
    let changes = changes.filter(|change| !HIDDEN.iter().any(|path| change.path == Path::new(path)));
    let changes: BTreeSet<String> = changes.map(|change| change.to_string()).collect();
    assert_eq!(changes, podman.ask(&["diff", "second"]).lines().map(str::to_owned).collect());
    podman.ask(&["rm", "second"]);
    podman.ask(&["rmi", "localhost/top", "localhost/base"]);
    assert_eq!(done(ours.graph.layers()), []);
    Ok(())
}
