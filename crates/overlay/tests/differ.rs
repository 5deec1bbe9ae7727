//! Layers that are filled by other means than a tar, and what killed processes of containers/storage leave of theirs.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use graphdriver_archive::tar_split::Recorded;
use graphdriver_archive::{ApplyOptions, RootDir, apply_recorded};
use graphdriver_core::{
    Differ, DifferOutput, Error, ErrorKind, Graph, IdMaps, LayerApplyOptions, MountOptions, Result,
};
use graphdriver_sys::ofd_lock::{LockKind, try_lock};
use support::{Store, archive, base, id, names, on, write};

const TOC: &str = "sha256:6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b";

/// Links a file of another layer into the new one, as a partial pull does with what is there already.
#[derive(Debug)]
struct Linking {
    file: PathBuf,
    fails: bool,
    lowers: usize,
}

impl Differ for Linking {
    fn fill(&mut self, directory: &RootDir, options: &ApplyOptions) -> Result<DifferOutput> {
        self.lowers = options.lowers.len();
        fs::hard_link(&self.file, directory.path().join("linked")).unwrap();
        File::create_new(directory.path().join("fetched")).unwrap().write_all(b"fetched").unwrap();
        if self.fails {
            return Err(Error::new(ErrorKind::NoSpace, "fetch"));
        }
        let mut output = DifferOutput { toc_digest: Some(TOC.to_owned()), ..DifferOutput::default() };
        output.applied.bytes = 7;
        output.big_data.insert("zstd-chunked-manifest".to_owned(), b"{}".to_vec());
        Ok(output)
    }
}

fn linking(store: &Store, fails: bool) -> (Graph, Linking) {
    let graph = store.open();
    graph.create(&id("base"), &base()).unwrap();
    write(&graph, "base", "file", "base");
    (graph, Linking { file: store.home().join("base/diff/file"), fails, lowers: 0 })
}

#[test]
#[ignore = "needs root"]
fn a_layer_appears_when_it_is_committed() {
    let store = Store::new();
    let (graph, mut differ) = linking(&store, false);
    let power = graph.driver().staged_apply().unwrap();
    let (staged, output) = power.stage_with(&on("base"), &mut differ, &LayerApplyOptions::default()).unwrap();
    assert_eq!(differ.lowers, 1);
    assert_eq!((output.toc_digest.as_deref(), output.big_data.len()), (Some(TOC), 1));
    assert_eq!(staged.applied().bytes, 7);
    assert_eq!(graph.layers().unwrap(), [id("base")]);
    staged.commit(&id("layer")).unwrap();
    let mount = graph.mount(&id("layer"), &MountOptions::default()).unwrap();
    assert_eq!(names(mount.path()), ["fetched", "file", "linked"]);
    assert_eq!(fs::read_to_string(mount.path().join("linked")).unwrap(), "base");
    mount.unmount().unwrap();
    let inode = |path: &str| fs::metadata(store.home().join(path)).unwrap().ino();
    assert_eq!(inode("layer/diff/linked"), inode("base/diff/file"), "on the file system of the home");
    let (again, _) = power.stage_with(&on("base"), &mut differ, &LayerApplyOptions::default()).unwrap();
    assert_eq!(again.commit(&id("layer")).unwrap_err().kind(), ErrorKind::LayerExists);
    assert_eq!(names(store.home().join("tempdirs")), [""; 0]);
}

#[test]
#[ignore = "needs root"]
fn nothing_remains_of_what_is_not_committed() {
    let store = Store::new();
    let (graph, mut differ) = linking(&store, true);
    let power = graph.driver().staged_apply().unwrap();
    let failed = power.stage_with(&on("base"), &mut differ, &LayerApplyOptions::default());
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::NoSpace);
    differ.fails = false;
    drop(power.stage_with(&on("base"), &mut differ, &LayerApplyOptions::default()).unwrap());
    let missing = power.stage_with(&on("missing"), &mut differ, &LayerApplyOptions::default());
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::ParentUnknown);
    assert_eq!(names(store.home().join("tempdirs")), [""; 0]);
    assert_eq!(fs::metadata(store.home().join("base/diff/file")).unwrap().nlink(), 1);
}

/// Unpacks an archive by the archive crate, and hands on the record that it wrote.
#[derive(Debug)]
struct Unpacking {
    archive: Vec<u8>,
    gives_digest: bool,
}

impl Differ for Unpacking {
    fn fill(&mut self, directory: &RootDir, options: &ApplyOptions) -> Result<DifferOutput> {
        let record = tempfile::tempfile().unwrap();
        let (mut applied, recorded) =
            apply_recorded(directory, &mut self.archive.as_slice(), options, record.try_clone().unwrap())?;
        assert_eq!(recorded, Recorded::Exact);
        if !self.gives_digest {
            applied.archive = None;
        }
        Ok(DifferOutput { applied, is_size_known: true, tar_split: Some(record), ..DifferOutput::default() })
    }
}

#[test]
#[ignore = "needs root"]
fn a_record_of_the_archive_is_kept() {
    let store = Store::new();
    let graph = store.open();
    let mut bytes = archive(&["z", "dir/", "dir/a"]);
    bytes.resize(bytes.len() + 5000, 0);
    let power = graph.driver().staged_apply().unwrap();
    for (layer, gives_digest, skip_record) in
        [("with", true, false), ("without", true, true), ("unknown", false, false)]
    {
        let mut differ = Unpacking { archive: bytes.clone(), gives_digest };
        let options = LayerApplyOptions { skip_record, ..LayerApplyOptions::default() };
        power.stage_with(&base(), &mut differ, &options).unwrap().0.commit(&id(layer)).unwrap();
        let mut diff = Vec::new();
        graph.diff(&id(layer), None, &IdMaps::default()).unwrap().read_to_end(&mut diff).unwrap();
        assert_eq!(diff == bytes, layer == "with", "{layer}");
        assert_eq!(store.home().join(layer).join("tar-split.gz").exists(), layer == "with");
    }
}

/// What containers/storage makes first of a partial pull, `seconds` ago.
fn leave(home: &Path, name: &str, seconds: u64) -> File {
    let path = home.join("staging").join(name);
    fs::create_dir_all(path.join("dir/sub")).unwrap();
    let lock = File::create_new(path.join("staging.lock")).unwrap();
    let then = SystemTime::now() - Duration::from_secs(seconds);
    File::open(path).unwrap().set_modified(then).unwrap();
    lock
}

#[test]
#[ignore = "needs root"]
fn stale_staging_directories_go_and_those_in_use_stay() {
    let store = Store::new();
    drop(store.open());
    let held = leave(&store.home(), "held", 3600);
    assert!(try_lock(&held, 0, 0, LockKind::Exclusive).unwrap());
    leave(&store.home(), "stale", 3600);
    // Its owner is about to lock it.
    leave(&store.home(), "young", 0);
    let graph = store.open();
    assert_eq!(names(store.home().join("staging")), ["held", "young"]);
    leave(&store.home(), "stale", 3600);
    graph.cleanup().unwrap();
    assert_eq!(names(store.home().join("staging")), ["held", "young"]);
    assert_eq!(graph.layers().unwrap(), []);
    drop(held);
    graph.cleanup().unwrap();
    assert_eq!(names(store.home().join("staging")), ["young"]);
}
