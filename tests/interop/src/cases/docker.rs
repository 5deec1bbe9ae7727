//! `docker/<what>`: homes of dockerd's, opened by us while it does not run, and used by it again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use graphdriver::{LayerApplyOptions, MountOptions};
use graphdriver_conformance::tree::Tree;

use super::Case;
use crate::bench::Bench;
use crate::differences::{Peer, written_by};
use crate::needs::Need;
use crate::peer::dockerd::{self, Docker};
use crate::peer::gnu_tar;
use crate::shell;
use crate::stage::Scratch;
use crate::store::{Store, done, id};

pub(super) fn cases() -> Vec<Case> {
    let case = |what: &str, check: fn(&mut Made)| {
        Case::new(format!("docker/{what}"), move |bench| {
            check(&mut Made::new(bench)?);
            Ok(())
        })
    };
    vec![
        case("stacks", stacks),
        case("container", container),
        case("image", image),
        case("committed", committed),
        case("layers-of-ours", layers_of_ours),
    ]
}

/// What dockerd made before it was stopped: an image that was imported, one that was built on it, a container that was run, and an image of that.
struct Made {
    docker: Docker,
    ours: Store,
    /// The container's layers as it tells them, uppermost first.
    container: Vec<String>,
    image: Vec<String>,
    changes: Vec<(char, PathBuf)>,
    scratch: Scratch,
}

const DOCKERFILE: &str = "\
FROM base
COPY files /files
RUN rm -r /files/removed /files/replaced && mkdir /files/replaced && echo new > /files/replaced/new
RUN echo built > /built && chmod 600 /files/kept && ln /built /link
";

const COMMANDS: &str = "\
echo edited >> /built; rm /files/kept; mkdir /made; echo made > /made/file; chown 1:2 /made/file; rm -r /files/replaced; mkdir /files/replaced; \
ln -s nowhere /made/symlink; mkfifo /made/fifo";

impl Made {
    fn new(bench: &Bench) -> Result<Self, Need> {
        dockerd::is_here()?;
        let scratch = bench.stage.scratch()?;
        let mut docker = Docker::new(scratch.path());
        let context = make_context(&scratch);
        docker.start();
        docker.ask(&["import", context.join("base.tar").to_str().unwrap(), "base"]);
        docker.ask(&["build", "--network", "none", "--tag", "built", context.to_str().unwrap()]);
        docker.ask(&["run", "--network", "none", "--name", "container", "built", "sh", "-c", COMMANDS]);
        docker.ask(&["commit", "container", "committed"]);
        for (command, name, archive) in
            [("export", "container", "export.tar"), ("save", "committed", "save.tar")]
        {
            docker.ask(&[command, "--output", scratch.join(archive).to_str().unwrap(), name]);
        }
        let (container, image) = (docker.layers("container"), docker.layers("committed"));
        let changes = docker.changes("container");
        docker.stop();
        let ours = Store::open_root("overlay2", &docker.root(), &scratch.join("run-of-ours"));
        Ok(Self { docker, ours, container, image, changes, scratch })
    }

    fn mark(&self, layer: &str) -> PathBuf {
        self.docker.root().join("overlay2").join(layer).join("committed")
    }
}

/// A Dockerfile, files to copy, and the archive of an image that has nothing but a shell.
fn make_context(scratch: &Scratch) -> PathBuf {
    let context = scratch.dir("context");
    for name in ["kept", "removed/file", "replaced/old"] {
        let path = context.join("files").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
    fs::write(context.join("Dockerfile"), DOCKERFILE).unwrap();
    shell::make_archive(&context.join("base.tar"));
    context
}

/// Which layers there are, and what lies on what.
fn stacks(made: &mut Made) {
    let graph = &made.ours.graph;
    for layers in [&made.container, &made.image] {
        for (index, layer) in layers.iter().enumerate() {
            let below = layers.get(index + 1).map(|below| id(below));
            assert_eq!(done(graph.parent(&id(layer))), below, "{layer}");
        }
    }
    let expected: BTreeSet<_> = made.container.iter().chain(&made.image).map(|layer| id(layer)).collect();
    assert_eq!(done(graph.layers()).into_iter().collect::<BTreeSet<_>>(), expected);
}

/// What it shows and what it changed.
fn container(made: &mut Made) {
    let [layer, init] = [&made.container[0], &made.container[1]];
    let changes = done(made.ours.graph.changes(&id(layer), Some(&id(init)))).into_iter();
    let changes = changes.map(|change| (change.kind.letter(), change.path)).collect();
    let changes = deleted_and_made_anew_is_modified(changes, &made.ours.tree(layer), &made.ours.tree(init));
    assert_eq!(changes, made.changes.iter().cloned().collect());
    let exported = made.scratch.dir("exported");
    gnu_tar::extract(&made.scratch.join("export.tar"), &exported);
    let mut exported = Tree::read_large(&exported);
    let ours = written_by(Peer::Docker, &made.ours.tree(layer));
    // No archive says anything of the root directory.
    let root = Path::new("");
    exported.nodes.insert(root.to_owned(), ours.nodes[root].clone());
    exported.assert_same(&ours);
}

/// A directory that was deleted and made anew we call deleted, as containers/storage does, and all in it new. Docker compares, and says what of the old is missing in the new one.
fn deleted_and_made_anew_is_modified(
    changes: BTreeSet<(char, PathBuf)>,
    tree: &Tree,
    below: &Tree,
) -> BTreeSet<(char, PathBuf)> {
    let inner = |path: &Path| path.strip_prefix("/").unwrap().to_owned();
    let is_there = |(kind, path): &(char, PathBuf)| *kind == 'D' && tree.nodes.contains_key(&inner(path));
    let (anew, mut changes): (BTreeSet<_>, BTreeSet<_>) = changes.into_iter().partition(is_there);
    for (_, dir) in anew {
        let missing = below.nodes.keys().filter(|path| path.parent() == Some(&inner(&dir)));
        let missing = missing.filter(|path| !tree.nodes.contains_key(*path));
        changes.extend(missing.map(|path| ('D', Path::new("/").join(path))));
        changes.insert(('C', dir));
    }
    changes
}

/// The layers of an image, each as the archive that `docker save` writes.
fn image(made: &mut Made) {
    let saved = made.scratch.dir("saved");
    gnu_tar::extract(&made.scratch.join("save.tar"), &saved);
    let manifest = fs::read_to_string(saved.join("manifest.json")).unwrap();
    let (_, layers) = manifest.split_once("\"Layers\":[").unwrap();
    let archives: Vec<&str> =
        layers.split_once(']').unwrap().0.split(',').map(|name| name.trim_matches('"')).collect();
    let layers: Vec<&String> = made.image.iter().rev().collect();
    assert_eq!(archives.len(), layers.len());
    let mut parent: Option<&str> = None;
    for (layer, archive) in layers.into_iter().zip(archives) {
        let theirs = saved.join(archive);
        let ours = made.scratch.join(&format!("{layer}.tar"));
        made.ours.diff(layer, parent, &ours);
        assert_eq!(gnu_tar::names(&ours), gnu_tar::names(&theirs), "{layer}");
        let trees = [("ours", &ours), ("theirs", &theirs)].map(|(writer, archive)| {
            made.ours.fill(writer, parent, archive);
            let tree = made.ours.tree(writer);
            done(made.ours.graph.remove(&id(writer)));
            tree
        });
        written_by(Peer::Docker, &trees[0]).assert_same(&written_by(Peer::Docker, &trees[1]));
        parent = Some(layer);
    }
}

/// Layers with children are not written to, by whomever they were given them.
fn committed(made: &mut Made) {
    let graph = &made.ours.graph;
    for (index, layer) in made.container.iter().enumerate() {
        assert_eq!(made.mark(layer).exists(), index > 0, "{layer}");
        let mount = done(graph.mount(&id(layer), &MountOptions::default()));
        let written = fs::write(mount.path().join("written"), "");
        assert_eq!(written.is_ok(), index == 0, "{layer}: {written:?}");
        done(mount.unmount());
    }
    let top = &made.image[0];
    assert!(!made.mark(top).exists());
    made.ours.edit("ours", top, |root| fs::write(root.join("ours"), "").unwrap());
    assert!(made.mark(top).exists() && !made.mark("ours").exists());
    done(graph.remove(&id("ours")));
    made.docker.start();
    let run = ["run", "--rm", "--network", "none", "committed", "cat", "/made/file"];
    assert_eq!(made.docker.ask(&run), "made\n");
    made.docker.ask(&["rmi", "committed"]);
    made.docker.stop();
    assert!(!done(graph.exists(&id(top))));
}

/// A container's layer and an image's that we have removed and made anew under their ids are run, compared, committed, saved and deleted.
fn layers_of_ours(made: &mut Made) {
    let graph = &made.ours.graph;
    let [layer, init] = [made.container[0].clone(), made.container[1].clone()];
    done(graph.remove(&id(&layer)));
    made.ours.edit(&layer, &init, |root| {
        fs::write(root.join("ours"), "by us\n").unwrap();
        fs::remove_file(root.join("built")).unwrap();
    });
    let [top, below] = [&made.image[0], &made.image[1]];
    let archive = made.scratch.join("top.tar");
    made.ours.diff(top, Some(below), &archive);
    done(graph.remove(&id(top)));
    done(graph.create(&id(top), &graphdriver::CreateOptions::on(&id(below))));
    let mut archive = fs::File::open(archive).unwrap();
    done(graph.apply(&id(top), &mut archive, &LayerApplyOptions::default()));

    let docker = &mut made.docker;
    docker.start();
    let changes: BTreeSet<_> = docker.changes("container").into_iter().collect();
    assert_eq!(changes, BTreeSet::from([('A', "/ours".into()), ('D', "/built".into())]));
    docker.ask(&["commit", "--change", "CMD cat /ours", "container", "from-ours"]);
    assert_eq!(docker.ask(&["run", "--rm", "--network", "none", "from-ours"]), "by us\n");
    let run = ["run", "--rm", "--network", "none", "committed", "cat", "/built", "/made/file"];
    assert_eq!(docker.ask(&run), "built\nedited\nmade\n");
    // It writes the archive that it once read, with the files' contents from the layer, and checks them.
    docker.ask(&["save", "--output", made.scratch.join("again.tar").to_str().unwrap(), "committed"]);
    docker.ask(&["rm", "container"]);
    docker.ask(&["rmi", "from-ours", "committed"]);
    docker.stop();
    for layer in [&layer, &init, top] {
        assert!(!done(graph.exists(&id(layer))), "{layer}");
    }
    assert_eq!(done(graph.layers()).len(), made.image.len() - 1);
}
