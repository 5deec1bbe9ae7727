//! containers-storage, the command of the Go library of that name that podman, buildah and CRI-O keep their layers with.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{program, run};

pub(crate) const NAME: &str = "containers-storage";

/// A store of that library.
pub(crate) struct Store {
    driver: &'static str,
    dir: PathBuf,
    option: Option<&'static str>,
}

/// How ids of a layer's files are mapped: the container's first, the host's first, and how many.
pub(crate) type IdMap = (u32, u32, u32);

impl Store {
    /// A new store in the existing directory `dir`, untouched by how this machine is configured.
    pub(crate) fn new(driver: &'static str, dir: &Path) -> Self {
        Self::with_option(driver, dir, None)
    }

    /// With the option `KEY=VALUE` of its driver.
    pub(crate) fn with_option(driver: &'static str, dir: &Path, option: Option<&'static str>) -> Self {
        let store = Self { driver, dir: dir.to_owned(), option };
        let (graph, run) = (store.graph(), store.dir.join("run"));
        let text = format!("[storage]\ndriver = {driver:?}\ngraphroot = {graph:?}\nrunroot = {run:?}\n");
        fs::write(store.configuration(), text).unwrap();
        store
    }

    fn configuration(&self) -> PathBuf {
        self.dir.join("storage.conf")
    }

    /// The directory that holds the homes of its drivers.
    pub(crate) fn graph(&self) -> PathBuf {
        self.dir.join("graph")
    }

    fn command(&self, words: &[&str]) -> Command {
        self.command_with_run_dir("run", words)
    }

    fn command_with_run_dir(&self, name: &str, words: &[&str]) -> Command {
        let mut command = program(NAME);
        command.env("CONTAINERS_STORAGE_CONF", self.configuration());
        command.env_remove("STORAGE_DRIVER").env_remove("STORAGE_OPTS");
        command.arg("--graph").arg(self.graph()).arg("--run").arg(self.dir.join(name));
        command.args(["--storage-driver", self.driver]);
        command.args(self.option.into_iter().flat_map(|option| ["--storage-opt", option])).args(words);
        command
    }

    /// Like [`command`](Self::command), but it does not find that the kernel maps ids in mounts, and so rewrites the owners of layers as it does on older kernels: where the root
    /// directory is not that of the mount namespace, `clone(2)` makes no user namespace, and it needs one to find out.
    fn command_without_id_mapped_mounts(&self, words: &[&str]) -> Command {
        // What it found out about the kernel it remembers in its run directory.
        let inner = self.command_with_run_dir("run-without-id-mapped-mounts", words);
        let root = self.dir.join("root");
        fs::create_dir_all(&root).unwrap();
        // In a mount namespace of its own, so that the copies of all mounts keep nobody's busy.
        let script = "mount --rbind / \"$0\" && exec chroot \"$0\" \"$@\"";
        let mut command = program("unshare");
        command.args(["--mount", "--propagation=private", "--", "sh", "-c", script]).arg(root);
        command.arg(inner.get_program()).args(inner.get_args());
        for (key, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        command
    }

    fn ask(&self, words: &[&str]) -> String {
        String::from_utf8(run(&mut self.command(words)).stdout).unwrap()
    }

    /// Makes an empty layer.
    pub(crate) fn create(&self, id: &str, parent: Option<&str>) {
        run(self.command(&["create-layer", "--id", id]).args(parent));
    }

    /// Makes a layer of an archive.
    pub(crate) fn fill(&self, id: &str, parent: Option<&str>, archive: &Path) {
        self.create(id, parent);
        run(self.command(&["applydiff", "--file"]).arg(archive).arg(id));
    }

    /// Makes a layer of an archive in one step.
    pub(crate) fn import(&self, id: &str, parent: Option<&str>, archive: &Path) {
        run(self.command(&["import-layer", "--id", id, "--file"]).arg(archive).args(parent));
    }

    /// Makes a layer whose files have the owners of the parent's, mapped.
    pub(crate) fn create_mapped(&self, id: &str, parent: &str, map: IdMap) {
        let map = words_of(map);
        let words = ["create-layer", "--id", id, "--uidmap", &map, "--gidmap", &map, parent];
        run(&mut self.command_without_id_mapped_mounts(&words));
    }

    /// Makes a container on an image of the layer `top`, for which owners are mapped where it is mounted, and returns its layer.
    pub(crate) fn create_container(&self, id: &str, top: &str, map: IdMap) -> String {
        let (image, map) = (format!("{id}-image"), words_of(map));
        self.ask(&["create-image", "--id", &image, top]);
        self.ask(&["create-container", "--id", id, "--uidmap", &map, "--gidmap", &map, &image]);
        let printed = self.ask(&["container", id]);
        let layer = printed.lines().find_map(|line| line.strip_prefix("Layer: "));
        layer.unwrap_or_else(|| panic!("no layer in {printed:?}")).to_owned()
    }

    /// Deletes a layer, unless others need it.
    pub(crate) fn delete(&self, id: &str) {
        self.ask(&["delete-layer", id]);
    }

    /// Mounts a layer, or that of a container.
    pub(crate) fn mount(&self, id: &str) -> PathBuf {
        let printed = self.ask(&["mount", id]);
        let path = PathBuf::from(printed.trim_end_matches('\n'));
        assert!(path.starts_with(self.graph()) && path.is_dir(), "mount {id} printed {printed:?}");
        path
    }

    pub(crate) fn unmount(&self, id: &str) {
        self.ask(&["unmount", id]);
    }

    /// What the layer changed against its parent, in the order printed: `A`, `C` or `D`, and the path.
    pub(crate) fn changes(&self, id: &str) -> Vec<(char, PathBuf)> {
        self.ask(&["changes", id]).lines().map(change).collect()
    }

    /// Writes what the layer changed against its parent to the new file `archive`.
    pub(crate) fn diff(&self, id: &str, archive: &Path) {
        run(self.command(&["diff", "--uncompressed", "--file"]).arg(archive).arg(id));
    }

    /// The bytes of what the layer changed against its parent.
    pub(crate) fn diff_size(&self, id: &str) -> u64 {
        self.ask(&["diffsize", id]).trim_end().parse().unwrap()
    }
}

fn words_of((container, host, count): IdMap) -> String {
    format!("{container}:{host}:{count}")
}

/// Reads `Modify "/path"`.
fn change(line: &str) -> (char, PathBuf) {
    let (kind, path) = line.split_once(' ').unwrap_or_else(|| panic!("unexpected line {line:?}"));
    let letter = match kind {
        "Add" => 'A',
        "Modify" => 'C',
        "Delete" => 'D',
        other => panic!("unexpected kind {other:?}"),
    };
    (letter, PathBuf::from(OsString::from_vec(unquoted(path))))
}

/// The bytes that Go's `%q` stands for.
fn unquoted(text: &str) -> Vec<u8> {
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let mut rest = inner.unwrap_or_else(|| panic!("not quoted: {text}")).as_bytes();
    let mut bytes = Vec::with_capacity(rest.len());
    while let [first, after @ ..] = rest {
        if *first != b'\\' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let (code, after) = after.split_first().expect("a backslash with something after it");
        rest = after;
        match code {
            b'n' => bytes.push(b'\n'),
            b'x' => {
                let digits = std::str::from_utf8(&rest[..2]).unwrap();
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
                rest = &rest[2..];
            }
            b'\\' | b'"' => bytes.push(*code),
            other => panic!("unexpected code {:?} in {text}", char::from(*other)),
        }
    }
    bytes
}
