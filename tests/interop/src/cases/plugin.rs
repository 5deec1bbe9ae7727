//! `plugin/<driver>`: dockerd with one of our drivers as its plugin, beside dockerd with its own overlay2. What comes out must be the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use graphdriver_conformance::tree::Tree;

use super::{Case, DRIVERS};
use crate::bench::Bench;
use crate::needs::Need;
use crate::peer::dockerd::{self, Docker};
use crate::peer::gnu_tar;
use crate::peer::plugin::{NAME, Plugin};
use crate::peer::room::Room;
use crate::shell;
use crate::stage::Scratch;

pub(super) fn cases() -> Vec<Case> {
    let expected = Arc::new(OnceLock::new());
    let case = |driver| {
        let expected = Arc::clone(&expected);
        Case::new(format!("plugin/{driver}"), move |bench| check(bench, driver, &expected))
    };
    DRIVERS.into_iter().map(case).collect()
}

const DOCKERFILE: &str = "\
FROM base
COPY files /files
RUN rm -r /files/removed && echo new > /files/kept && ln -s kept /files/symlink
RUN echo built > /built && chmod 600 /built && echo linked > /one && ln /one /two && chown 1:2 /files
";

const COMMANDS: &str = "\
echo edited >> /built; rm /files/kept; mkdir -m 750 /made; echo made > /made/file; chown 1:2 /made/file; ln -s nowhere /made/symlink; mkfifo /made/fifo";

/// Containers that run at once.
const CROWD: usize = 20;

/// What Docker's own driver makes is `expected`, once there is one.
fn check(bench: &Bench, driver: &'static str, expected: &OnceLock<Outcome>) -> Result<(), Need> {
    dockerd::is_here()?;
    let (theirs, ours) = (bench.stage.scratch()?, bench.stage.scratch_for(driver)?);
    let expected = expected.get_or_init(|| exercise(&theirs, None));
    let found = exercise(&ours, Some(driver));
    assert_eq!(found.changes, expected.changes);
    assert_eq!(found.archives, expected.archives);
    for (name, tree) in &found.trees {
        tree.assert_same(&expected.trees[name]);
    }
    let left = dirs_of_layers(&ours.join("data").join(NAME).join(driver));
    assert!(left.is_empty(), "layers that nobody needs: {left:?}");
    Ok(())
}

/// What can be seen of what dockerd made.
struct Outcome {
    /// What `docker diff` says.
    changes: BTreeSet<(char, PathBuf)>,
    /// Containers and layers by what they were called, without times: those of two runs differ.
    trees: BTreeMap<String, Tree>,
    /// The names in archives.
    archives: BTreeMap<String, BTreeSet<String>>,
}

/// A daemon, and the plugin that it works with, if it is not with a driver of its own.
struct Engine<'a> {
    docker: Docker,
    plugin: Option<(Plugin, &'static str)>,
    room: &'a Room,
    run_root: PathBuf,
}

impl<'a> Engine<'a> {
    fn start(scratch: &Scratch, room: &'a Room, driver: Option<&'static str>) -> Self {
        let run_root = scratch.join("run-of-plugin");
        let plugin = driver.map(|driver| (Plugin::start(room, driver, &run_root), driver));
        let storage_driver = if plugin.is_some() { NAME } else { "overlay2" };
        let mut docker = Docker::with_driver(scratch.path(), storage_driver);
        docker.start_in(room);
        Self { docker, plugin, room, run_root }
    }

    /// Another process takes over in the middle of what the daemon does.
    fn restart_plugin(&mut self) {
        if let Some((plugin, driver)) = self.plugin.take() {
            plugin.kill();
            self.plugin = Some((Plugin::start(self.room, driver, &self.run_root), driver));
        }
    }

    fn restart_daemon(&mut self) {
        self.docker.stop();
        self.docker.start_in(self.room);
    }

    fn ask(&self, words: &[&str]) -> String {
        self.docker.ask(words)
    }

    /// Runs a command in a new container of an image, and returns what it prints.
    fn run(&self, image: &str, command: &[&str]) -> String {
        self.ask(&[&["run", "--rm", "--network", "none", image], command].concat())
    }

    /// Writes the image to the new file `archive`, and returns the archives of its layers, by order.
    fn save(&self, image: &str, archive: &Path) -> Vec<PathBuf> {
        self.ask(&["save", "--output", archive.to_str().unwrap(), image]);
        let dir = archive.with_extension("unpacked");
        fs::create_dir(&dir).unwrap();
        gnu_tar::extract(archive, &dir);
        let manifest = fs::read_to_string(dir.join("manifest.json")).unwrap();
        let (_, layers) = manifest.split_once("\"Layers\":[").unwrap();
        let names = layers.split_once(']').unwrap().0.split(',');
        names.map(|name| dir.join(name.trim_matches('"'))).collect()
    }
}

/// The same steps for every driver.
fn exercise(scratch: &Scratch, driver: Option<&'static str>) -> Outcome {
    let room = Room::new(scratch.path());
    let mut engine = Engine::start(scratch, &room, driver);
    let name = if driver.is_some() { NAME } else { "overlay2" };
    assert_eq!(engine.ask(&["info", "--format", "{{.Driver}}"]).trim_end(), name);
    build(&engine, scratch);
    engine.restart_plugin();
    let changes = change(&mut engine, scratch);
    let outcome = look(&engine, scratch, changes);
    engine.restart_daemon();
    again(&mut engine, scratch);
    crowd(&engine);
    engine.ask(&["rm", "container", "copied"]);
    engine.ask(&["rmi", "committed", "built", "base"]);
    engine.docker.stop();
    outcome
}

/// An image that is imported, and one that is built on it.
fn build(engine: &Engine<'_>, scratch: &Scratch) {
    let context = scratch.dir("context");
    for name in ["kept", "removed/file"] {
        let path = context.join("files").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
    fs::write(context.join("Dockerfile"), DOCKERFILE).unwrap();
    let archive = scratch.join("base.tar");
    shell::make_archive(&archive);
    engine.ask(&["import", archive.to_str().unwrap(), "base"]);
    let saved = engine.save("base", &scratch.join("base-saved.tar"));
    assert_eq!(saved.len(), 1);
    assert!(fs::read(&saved[0]).unwrap() == fs::read(&archive).unwrap(), "saved as it was imported");
    engine.ask(&["build", "--network", "none", "--tag", "built", context.to_str().unwrap()]);
}

/// A container that writes, one that files are copied into and out of, and an image of the first; returns what the first changed.
fn change(engine: &mut Engine<'_>, scratch: &Scratch) -> BTreeSet<(char, PathBuf)> {
    engine.ask(&["run", "--network", "none", "--name", "container", "built", "sh", "-c", COMMANDS]);
    engine.ask(&["create", "--name", "copied", "built", "cat", "/in"]);
    engine.restart_plugin();
    let [before, after] = ["in", "out"].map(|name| scratch.join(name));
    fs::write(&before, "copied\n").unwrap();
    engine.ask(&["cp", before.to_str().unwrap(), "copied:/in"]);
    engine.ask(&["cp", "copied:/in", after.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&after).unwrap(), "copied\n");
    assert_eq!(engine.ask(&["start", "--attach", "copied"]), "copied\n");
    engine.ask(&["commit", "container", "committed"]);
    engine.docker.changes("container").into_iter().collect()
}

fn look(engine: &Engine<'_>, scratch: &Scratch, changes: BTreeSet<(char, PathBuf)>) -> Outcome {
    let (mut trees, mut archives) = (BTreeMap::new(), BTreeMap::new());
    let mut add = |name: String, archive: &Path| {
        let dir = scratch.dir(&format!("tree-{name}"));
        gnu_tar::extract(archive, &dir);
        let mut tree = Tree::read_large(&dir);
        for path in tree.nodes.keys().cloned().collect::<Vec<_>>() {
            tree.forget_time(&path);
            let is_whiteout =
                path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".wh."));
            if let Some(node) = tree.nodes.get_mut(&path).filter(|_| is_whiteout) {
                // They stand for what is gone, and nobody looks at their modes: Docker's are 0600, ours are zero.
                node.mode = 0;
            }
        }
        trees.insert(name.clone(), tree);
        archives.insert(name, gnu_tar::names(archive));
    };
    for container in ["container", "copied"] {
        let archive = scratch.join(&format!("{container}.tar"));
        engine.ask(&["export", "--output", archive.to_str().unwrap(), container]);
        add(container.to_owned(), &archive);
    }
    for (index, layer) in engine.save("committed", &scratch.join("saved.tar")).iter().enumerate() {
        add(format!("layer-{index}"), layer);
    }
    Outcome { changes, trees, archives }
}

/// After the daemon was started again, all is as it was: an image that is saved, removed, loaded and saved is the same to the byte.
fn again(engine: &mut Engine<'_>, scratch: &Scratch) {
    assert_eq!(engine.run("committed", &["cat", "/built", "/made/file"]), "built\nedited\nmade\n");
    assert_eq!(engine.ask(&["start", "--attach", "copied"]), "copied\n");
    let id =
        |engine: &Engine<'_>| engine.ask(&["inspect", "--format", "{{.Id}} {{.RootFS.Layers}}", "committed"]);
    let before = id(engine);
    engine.ask(&["rmi", "committed"]);
    engine.restart_plugin();
    engine.ask(&["load", "--input", scratch.join("saved.tar").to_str().unwrap()]);
    assert_eq!(id(engine), before);
    let layers = engine.save("committed", &scratch.join("saved-again.tar"));
    let old = layers.iter().map(|layer| {
        let inner = layer.strip_prefix(scratch.join("saved-again.unpacked")).unwrap();
        scratch.join("saved.unpacked").join(inner)
    });
    for (new, old) in layers.iter().zip(old) {
        assert!(fs::read(new).unwrap() == fs::read(&old).unwrap(), "{}", old.display());
    }
}

fn crowd(engine: &Engine<'_>) {
    std::thread::scope(|scope| {
        let run = |number: usize| {
            let command = format!("echo {number} > /written; cat /written");
            assert_eq!(engine.run("committed", &["sh", "-c", &command]), format!("{number}\n"));
        };
        for number in 0..CROWD {
            scope.spawn(move || run(number));
        }
    });
}

/// What looks like a layer in a home of ours.
fn dirs_of_layers(home: &Path) -> Vec<PathBuf> {
    let holder = match home.file_name().and_then(|name| name.to_str()) {
        Some("vfs") => home.join("dir"),
        Some("btrfs") => home.join("subvolumes"),
        _ => home.to_owned(),
    };
    let entries = fs::read_dir(holder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().is_some_and(|name| name.len() >= 64)).collect()
}
