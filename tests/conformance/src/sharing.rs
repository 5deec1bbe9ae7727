//! What each of several processes does that work in one home at once: images are made, used by containers, committed, read and removed, as by as many engines.
//!
//! A layer tells by its id what it holds, so every process can check the layers of every other.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use graphdriver_archive::IdMaps;
use graphdriver_core::{
    CreateOptions, ErrorKind, Graph, LayerApplyOptions, LayerId, LayerKind, MountOptions, Result,
};

use crate::content;
use crate::tarball::{Entry, Tarball};

/// How many images a process keeps; the more there are, the less often one has children and cannot go.
const IMAGES: usize = 12;

/// How often a process does something at least.
const FEWEST: u32 = 8;

/// What a process is called that only reads.
pub const READER: &str = "reader";

/// Works in the home for some time, opening it anew now and then, and prints which images it leaves.
pub fn play(open: impl Fn() -> Graph, name: &str, seconds: u64) {
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut worker = Worker { graph: open(), name, made: 0, images: Vec::new(), choice: seed(name) };
    let mut rounds = 0;
    // On a slow machine it takes longer until enough has been done.
    while Instant::now() < end || rounds < FEWEST {
        if rounds % 40 == 39 {
            worker.graph = open();
        }
        worker.work();
        rounds += 1;
    }
    for image in worker.images {
        println!("{image}");
    }
}

/// Checks that the image and those below it show what they were made of. False when it is gone, or goes meanwhile.
pub fn is_intact(graph: &Graph, image: &LayerId) -> bool {
    let Some(mount) = unless_gone(graph.mount(image, &MountOptions::read_only())) else { return false };
    // Nobody can remove what is mounted, or what lies below it.
    let mut layer = Some(image.clone());
    while let Some(id) = layer {
        check_file(mount.path(), &id);
        layer = graph.parent(&id).unwrap();
    }
    mount.unmount().unwrap();
    true
}

struct Worker<'a> {
    graph: Graph,
    name: &'a str,
    made: u64,
    /// Its own.
    images: Vec<LayerId>,
    choice: u64,
}

impl Worker<'_> {
    fn work(&mut self) {
        if self.name == READER {
            return self.read();
        }
        match self.choose(5) {
            0 => self.pull(),
            1 | 2 => self.run_container(),
            3 => self.read(),
            _ => self.remove_one(),
        }
        while self.images.len() > IMAGES {
            self.remove_one();
        }
    }

    /// An image from an archive, on any other or on none.
    fn pull(&mut self) {
        let id = self.next_id("image");
        let parent = self.any_image();
        let archive = Tarball::of([Entry::file(id.as_str(), contents_of(&id))]);
        self.make_image(id, parent, &archive);
    }

    fn make_image(&mut self, id: LayerId, parent: Option<LayerId>, archive: &[u8]) {
        let create = CreateOptions { parent, ..CreateOptions::default() };
        let made = self.graph.create_filled(&id, &create, &mut &*archive, &LayerApplyOptions::default());
        match made {
            Ok(_) => self.images.push(id),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ParentUnknown, "{}", error.report()),
        }
    }

    /// A layer that is written to while it is mounted, committed as an image, and removed.
    fn run_container(&mut self) {
        let Some(parent) = self.any_image() else { return self.pull() };
        let (container, image) = (self.next_id("container"), self.next_id("image"));
        let create = CreateOptions { kind: LayerKind::ReadWrite, ..CreateOptions::on(&parent) };
        match self.graph.create(&container, &create) {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ParentUnknown, "{}", error.report());
                return;
            }
        }
        let mount = self.graph.mount(&container, &MountOptions::default()).unwrap();
        check_file(mount.path(), &parent);
        fs::write(mount.path().join(image.as_str()), contents_of(&image)).unwrap();
        let in_use = self.graph.remove(&container).unwrap_err();
        assert_eq!(in_use.kind(), ErrorKind::LayerInUse, "{}", in_use.report());
        mount.unmount().unwrap();
        let changes = self.graph.changes(&container, Some(&parent)).unwrap();
        let added = format!("A /{image}");
        assert!(changes.iter().any(|change| change.to_string() == added), "{added} is not in {changes:?}");
        let mut archive = Vec::new();
        let mut diff = self.graph.diff(&container, Some(&parent), &IdMaps::default()).unwrap();
        diff.read_to_end(&mut archive).unwrap();
        diff.finish().unwrap();
        self.make_image(image, Some(parent), &archive);
        self.graph.remove(&container).unwrap();
    }

    fn read(&mut self) {
        let Some(image) = self.any_image() else { return };
        if is_intact(&self.graph, &image)
            && let Some(parent) = unless_gone(self.graph.parent(&image))
        {
            let size = unless_gone(self.graph.diff_size(&image, parent.as_ref()));
            assert!(size.is_none_or(|bytes| bytes > 0), "{image} has {size:?} bytes");
        }
    }

    fn remove_one(&mut self) {
        if self.images.is_empty() {
            return;
        }
        let index = self.choose(self.images.len());
        match self.graph.remove(&self.images[index]) {
            Ok(()) => drop(self.images.swap_remove(index)),
            Err(error) => assert_eq!(error.kind(), ErrorKind::LayerInUse, "{}", error.report()),
        }
    }

    fn any_image(&mut self) -> Option<LayerId> {
        let mut layers = self.graph.layers().unwrap();
        layers.retain(|layer| layer.as_str().starts_with("image"));
        if layers.is_empty() {
            return None;
        }
        let index = self.choose(layers.len());
        Some(layers.swap_remove(index))
    }

    fn next_id(&mut self, kind: &str) -> LayerId {
        self.made += 1;
        format!("{kind}-{}-{}", self.name, self.made).parse().unwrap()
    }

    /// A number below `count`.
    fn choose(&mut self, count: usize) -> usize {
        self.choice = self.choice.wrapping_add(1);
        usize::from_le_bytes(content::bytes(self.choice, 8).try_into().unwrap()) % count
    }
}

/// `None` where another process was faster in removing the layer.
fn unless_gone<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) if error.kind() == ErrorKind::LayerUnknown => None,
        Err(error) => panic!("{}", error.report()),
    }
}

fn check_file(root: &Path, id: &LayerId) {
    let path = root.join(id.as_str());
    let found = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(found == contents_of(id), "{} is not what was written", path.display());
}

/// Up to 64 KiB.
fn contents_of(id: &LayerId) -> Vec<u8> {
    let seed = seed(id.as_str());
    content::bytes(seed, usize::try_from(seed % 65_536).unwrap() + 1)
}

/// FNV-1a.
fn seed(text: &str) -> u64 {
    text.bytes()
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}
