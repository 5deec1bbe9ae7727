//! A home on tmpfs (or where the environment says) that is unmounted and deleted at the end of a test.
#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod intact;
pub(crate) mod shifted;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graphdriver_core::{
    CreateOptions, Driver, DriverHome, Graph, LayerId, MountOptions, OpenOptions, Result,
};
use graphdriver_overlay::{MountApi, Overlay, OverlayTuning};
use nix::mount::{MntFlags, umount2};
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

pub(crate) const BOTH_WAYS: [MountApi; 2] = [MountApi::FsContext, MountApi::Mount];

/// A root directory with an overlay home.
pub(crate) struct Store {
    dir: TempDir,
    /// Below the temporary directory, for tests with odd paths.
    root: PathBuf,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self::at("")
    }

    /// With the root at `path` below the temporary directory.
    pub(crate) fn at(path: impl AsRef<Path>) -> Self {
        let above =
            if Path::new("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
        let dir = tempfile::Builder::new().prefix("overlay-test-").tempdir_in(above).unwrap();
        let root = dir.path().join(path);
        fs::create_dir_all(&root).unwrap();
        Self { dir, root }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// How many mounts there are in it.
    pub(crate) fn mounts(&self) -> usize {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let name = self.dir().file_name().unwrap().to_str().unwrap();
        table.lines().filter(|line| line.split(' ').nth(4).is_some_and(|at| at.contains(name))).count()
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.root.join("overlay")
    }

    fn place(&self) -> DriverHome {
        DriverHome::new("overlay", &OpenOptions::new(&self.root, self.dir.path().join("run"))).unwrap()
    }

    pub(crate) fn open_with_options(&self, options: &[&str]) -> Graph {
        self.try_open(options).unwrap()
    }

    /// With the options `KEY=VALUE` of the driver.
    pub(crate) fn try_open(&self, options: &[&str]) -> Result<Graph> {
        let options = options.iter().map(|option| option.parse().unwrap());
        let options = OpenOptions::new(&self.root, self.dir.path().join("run")).with_options(options);
        let place = DriverHome::new("overlay", &options).unwrap();
        Overlay::open(&place).map(|overlay| Graph::new(Arc::new(overlay)))
    }

    /// Opened as the driver `name`, after which the home is called.
    pub(crate) fn open_named(&self, name: &str) -> Graph {
        let place =
            DriverHome::new(name, &OpenOptions::new(&self.root, self.dir.path().join("run"))).unwrap();
        Graph::new(Arc::new(Overlay::open(&place).unwrap()) as Arc<dyn Driver>)
    }

    pub(crate) fn open(&self) -> Graph {
        self.open_with(OverlayTuning::default())
    }

    pub(crate) fn open_by(&self, api: MountApi) -> Graph {
        let mut tuning = OverlayTuning::default();
        tuning.mount_api = Some(api);
        self.open_with(tuning)
    }

    pub(crate) fn open_with(&self, tuning: OverlayTuning) -> Graph {
        Graph::new(Arc::new(Overlay::open_with(&self.place(), tuning).unwrap()) as Arc<dyn Driver>)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        for _ in 0..100 {
            let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            let name = self.dir.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some(line) =
                table.lines().rev().find(|line| line.split(' ').nth(4).is_some_and(|at| at.contains(&name)))
            else {
                return;
            };
            let target = unescape(line.split(' ').nth(4).unwrap_or_default());
            if umount2(target.as_str(), MntFlags::MNT_DETACH).is_err() {
                return;
            }
        }
    }
}

/// Takes the octal numbers out of a path of mountinfo.
fn unescape(text: &str) -> String {
    let table = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    table.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// The overlay driver as `options` say.
pub(crate) fn open(options: &OpenOptions) -> Graph {
    let place = DriverHome::new("overlay", options).unwrap();
    Graph::new(Arc::new(Overlay::open(&place).unwrap()) as Arc<dyn Driver>)
}

/// A store that another process made, at its [`dir`](Store::dir).
pub(crate) fn open_at(dir: &Path) -> Graph {
    open(&OpenOptions::new(dir, dir.join("run")))
}

pub(crate) fn id(text: &str) -> LayerId {
    text.parse().unwrap()
}

pub(crate) fn base() -> CreateOptions {
    CreateOptions::default()
}

pub(crate) fn on(parent: &str) -> CreateOptions {
    CreateOptions::on(&id(parent))
}

/// Mounts the layer, writes the file, unmounts.
pub(crate) fn write(graph: &Graph, layer: &str, path: &str, contents: &str) {
    let mount = graph.mount(&id(layer), &MountOptions::default()).unwrap();
    fs::write(mount.path().join(path), contents).unwrap();
    mount.unmount().unwrap();
}

/// An archive of directories (ending in `/`) and files with their names as contents.
pub(crate) fn archive(entries: &[&str]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for entry in entries {
        let mut header = Header::new_gnu();
        header.set_mode(0o750);
        header.set_mtime(1_700_000_000);
        header.set_uid(0);
        header.set_gid(0);
        let contents = if entry.ends_with('/') { "" } else { entry };
        header.set_entry_type(if entry.ends_with('/') { EntryType::Directory } else { EntryType::Regular });
        header.set_size(contents.len() as u64);
        builder.append_data(&mut header, entry, contents.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// The names in a directory, sorted.
pub(crate) fn names(dir: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
