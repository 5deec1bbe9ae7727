//! `docker-overlay/<what>`: homes of dockerd's older driver `overlay`, whose layers share files by hard links.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use graphdriver::{ErrorKind, MountOptions, OpenOptions};
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
        Case::new(format!("docker-overlay/{what}"), move |bench| {
            check(&mut Made::new(bench)?);
            Ok(())
        })
    };
    vec![
        case("told-apart", told_apart),
        case("container", container),
        case("child-of-ours", child_of_ours),
        case("moved", moved),
    ]
}

const DOCKERFILE: &str = "\
FROM base
RUN echo built > /built && ln /built /link && mkdir -p /files/removed && echo kept > /files/kept
RUN rm -r /files/removed && chmod 600 /files/kept
";

const COMMANDS: &str = "echo edited >> /built; rm /files/kept; mkdir /made; echo made > /made/file; chown 1:2 /made/file; ln -s nowhere /made/symlink";

/// What dockerd made before it was stopped: an image that was imported, one that was built on it, and a container that was run.
struct Made {
    docker: Docker,
    ours: Store,
    container: String,
    /// The layer on which the container's lies, a tree.
    image: String,
    changes: BTreeSet<(char, PathBuf)>,
    scratch: Scratch,
}

impl Made {
    fn new(bench: &Bench) -> Result<Self, Need> {
        dockerd::is_here()?;
        let scratch = bench.stage.scratch()?;
        let mut docker = Docker::with_driver(scratch.path(), "overlay");
        let context = scratch.dir("context");
        fs::write(context.join("Dockerfile"), DOCKERFILE).unwrap();
        shell::make_archive(&context.join("base.tar"));
        docker.start();
        docker.ask(&["import", context.join("base.tar").to_str().unwrap(), "base"]);
        docker.ask(&["build", "--network", "none", "--tag", "built", context.to_str().unwrap()]);
        docker.ask(&["run", "--network", "none", "--name", "container", "built", "sh", "-c", COMMANDS]);
        docker.ask(&["export", "--output", scratch.join("export.tar").to_str().unwrap(), "container"]);
        let changes = docker.changes("container").into_iter().collect();
        let layer = |key: &str| {
            let format = format!("{{{{.GraphDriver.Data.{key}}}}}");
            let dir = docker.ask_word(&["inspect", "--format", &format, "container"]);
            let layer = Path::new(&dir).parent().unwrap();
            assert_eq!(layer.parent(), Some(docker.root().join("overlay").as_path()));
            layer.file_name().unwrap().to_str().unwrap().to_owned()
        };
        let (container, image) = (layer("UpperDir"), layer("LowerDir"));
        docker.stop();
        let ours = Store::open_root("overlay-hardlink", &docker.root(), &scratch.join("run-of-ours"));
        Ok(Self { docker, ours, container, image, changes, scratch })
    }

    /// What is seen where the layer is mounted, by who cannot write to it.
    fn tree(&self, layer: &str) -> Tree {
        let mount = done(self.ours.graph.mount(&id(layer), &MountOptions::read_only()));
        let tree = Tree::read_large(mount.path());
        done(mount.unmount());
        tree
    }
}

/// Two drivers have their homes in directories called `overlay`; neither takes the other's.
fn told_apart(made: &mut Made) {
    let graph = &made.ours.graph;
    let layers = done(graph.layers());
    assert!(layers.contains(&id(&made.container)) && layers.contains(&id(&made.image)), "{layers:?}");
    assert_eq!(done(graph.parent(&id(&made.container))), Some(id(&made.image)));
    assert_eq!(done(graph.check(false)), []);
    let options = OpenOptions::new(made.docker.root(), made.scratch.join("run"));
    for error in [
        graphdriver::registry().open("overlay", &options).unwrap_err(),
        graphdriver::registry().select(None, &options).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{}", error.report());
        assert!(error.to_string().contains("overlay-hardlink"), "{error}");
    }
    assert!(!made.docker.root().join("overlay/l").exists());
    let other = made.scratch.dir("other");
    let stacked = Store::open_root("overlay", &other, &made.scratch.join("run-of-other"));
    done(stacked.graph.create(&id("layer"), &graphdriver::CreateOptions::default()));
    // Not in the way in its own directory; no home where its name leads there.
    let hard_linked = Store::open_root("overlay-hardlink", &other, &made.scratch.join("run-of-other"));
    assert_eq!(done(hard_linked.graph.layers()), []);
    let inside = made.scratch.dir("renamed");
    drop((stacked, hard_linked));
    fs::rename(other.join("overlay"), inside.join("overlay-hardlink")).unwrap();
    let options = OpenOptions::new(inside, made.scratch.join("run-of-renamed"));
    let error = graphdriver::registry().open("overlay-hardlink", &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{}", error.report());
}

/// What the container shows and what it changed.
fn container(made: &mut Made) {
    let init = format!("{}-init", made.container);
    let graph = &made.ours.graph;
    let changes = done(graph.changes(&id(&made.container), Some(&id(&init)))).into_iter();
    let changes: BTreeSet<_> = changes.map(|change| (change.kind.letter(), change.path)).collect();
    assert_eq!(changes, made.changes);
    let exported = made.scratch.dir("exported");
    gnu_tar::extract(&made.scratch.join("export.tar"), &exported);
    let mut exported = Tree::read_large(&exported);
    let ours = written_by(Peer::Docker, &made.tree(&made.container));
    // No archive says anything of the root directory.
    let root = Path::new("");
    exported.nodes.insert(root.to_owned(), ours.nodes[root].clone());
    exported.assert_same(&ours);
    // The diff is told from the upper directory, and fills a layer that shows the same.
    let archive = made.scratch.join("container.tar");
    made.ours.diff(&made.container, Some(&made.image), &archive);
    made.ours.fill("filled", Some(&made.image), &archive);
    written_by(Peer::Docker, &made.tree("filled")).assert_same(&ours);
    done(graph.remove(&id("filled")));
}

/// A layer that we make on dockerd's shares its files, and changes none of them; dockerd goes on with its own.
fn child_of_ours(made: &mut Made) {
    let before = made.tree(&made.image);
    let home = made.docker.root().join("overlay");
    let archive = made.scratch.join("container.tar");
    made.ours.diff(&made.container, Some(&made.image), &archive);
    made.ours.fill("ours", Some(&made.image), &archive);
    let inode =
        |layer: &str, path: &str| fs::metadata(home.join(layer).join("root").join(path)).unwrap().ino();
    assert_eq!(inode("ours", "bin/busybox"), inode(&made.image, "bin/busybox"));
    assert_ne!(inode("ours", "built"), inode(&made.image, "built"));
    // Who writes to it in place gets a copy first.
    let mount = done(made.ours.graph.mount(&id("ours"), &MountOptions::default()));
    fs::write(mount.path().join("bin/busybox"), "overwritten").unwrap();
    done(mount.unmount());
    made.tree(&made.image).assert_same(&before);
    done(made.ours.graph.remove(&id("ours")));
    made.docker.start();
    let run = ["run", "--rm", "--network", "none", "built", "cat", "/built", "/files/kept"];
    assert_eq!(made.docker.ask(&run), "built\nkept\n");
    made.docker.ask(&["rm", "container"]);
    made.docker.stop();
    assert!(!done(made.ours.graph.exists(&id(&made.container))));
}

/// All layers are had by another driver: what they show is the same.
fn moved(made: &mut Made) {
    let to = Store::open_root("overlay2", &made.docker.root(), &made.scratch.join("run-of-ours"));
    for (layer, parent) in [(&made.image, None), (&made.container, Some(&*made.image))] {
        let archive = made.scratch.join(&format!("{layer}.tar"));
        made.ours.diff(layer, parent, &archive);
        to.fill(layer, parent, &archive);
    }
    for layer in [&made.image, &made.container] {
        let mut ours = made.tree(layer);
        let moved = to.tree(layer);
        let root = Path::new("");
        ours.nodes.insert(root.to_owned(), moved.nodes[root].clone());
        moved.assert_same(&ours);
    }
}
