//! Layers that are filled by other means than a tar of the caller's.

use std::fs;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use graphdriver_archive::{self as archive, ApplyOptions, ArchiveDigest, RootDir};
use graphdriver_core::{
    CreateOptions, Differ, DifferOutput, ErrorKind, LayerApplyOptions, LayerId, LayerKind, Result,
    StagedLayer,
};
use graphdriver_sys::btrfs;
use sha2::{Digest, Sha256};

use crate::configuration::Driver;
use crate::store::{Store, fails, id};
use crate::tarball::{Entry, Tarball};
use crate::tree::Times;

const BLOB: &str = "sha256:01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b";
const TOC: &str = "sha256:6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b";

/// Makes the files in the form that it is asked for, as a partial pull does, and tells all that there is to tell.
#[derive(Debug)]
pub struct Pull {
    pub archive: Vec<u8>,
    /// Whether the connection is lost at the end.
    pub fails: bool,
    /// How many layers it was told lie below.
    lowers: usize,
}

impl Pull {
    pub fn of(archive: Vec<u8>) -> Self {
        Self { archive, fails: false, lowers: 0 }
    }
}

impl Differ for Pull {
    fn fill(&mut self, directory: &RootDir, options: &ApplyOptions) -> Result<DifferOutput> {
        self.lowers = options.lowers.len();
        let options = ApplyOptions { digest: true, ..options.clone() };
        let applied = archive::apply(directory, &mut &*self.archive, &options)?;
        if self.fails {
            return Err(graphdriver_core::Error::new(ErrorKind::Io, "fetch"));
        }
        let mut tar_split = tempfile::tempfile().unwrap();
        tar_split.write_all(b"records").unwrap();
        tar_split.rewind().unwrap();
        Ok(DifferOutput {
            applied,
            is_size_known: true,
            compressed_digest: Some(BLOB.to_owned()),
            toc_digest: Some(TOC.to_owned()),
            uids: [0, 1000].into(),
            gids: [0].into(),
            big_data: [("zstd-chunked-manifest".to_owned(), b"{}".to_vec())].into(),
            tar_split: Some(tar_split),
            metadata: "pulled".to_owned(),
        })
    }
}

fn stage(
    store: &Store,
    parent: Option<&LayerId>,
    pull: &mut Pull,
) -> Result<(Box<dyn StagedLayer>, DifferOutput)> {
    let create = CreateOptions { parent: parent.cloned(), ..CreateOptions::default() };
    let driver = store.graph().driver();
    let staging = driver.staged_apply().expect("every driver of this suite fills layers out of sight");
    staging.stage_with(&create, pull, &LayerApplyOptions::default())
}

/// What a differ makes is the layer, as if an archive had been unpacked, and what it says comes back.
pub fn fills(store: &Store) {
    let base_archive =
        Tarball::of([Entry::dir("dir"), Entry::file("dir/kept", "kept"), Entry::file("gone", "")]);
    let base = store.fill("base", None, &base_archive);
    let archive = Tarball::of([
        // Without it, its time would be that of the unpacking where layers are copies.
        Entry::dir("dir"),
        Entry::file("dir/new", "new"),
        Entry::hard_link("dir/link", "dir/new"),
        Entry::whiteout("gone"),
        Entry::symlink("symlink", "dir"),
    ]);
    let unpacked = store.fill("unpacked", Some(&base), &archive);
    let expected = store.tree(&unpacked, Times::Seconds);
    let mut pull = Pull::of(archive.clone());
    let (staged, output) = stage(store, Some(&base), &mut pull).unwrap();
    assert!(!store.graph().exists(&id("pulled")).unwrap());
    assert_eq!(staged.applied(), output.applied);
    staged.commit(&id("pulled")).unwrap();
    store.tree(&id("pulled"), Times::Seconds).assert_same(&expected);
    assert_eq!(store.graph().parent(&id("pulled")).unwrap(), Some(base.clone()));
    assert_eq!(
        store.changes(&id("pulled"), Some(&base)),
        ["C /dir", "A /dir/link", "A /dir/new", "D /gone", "A /symlink"]
    );
    assert_eq!(
        output.applied.archive,
        Some(ArchiveDigest { sha256: Sha256::digest(&archive).into(), bytes: archive.len() as u64 })
    );
    assert_eq!((output.applied.entries, output.applied.bytes, output.is_size_known), (5, 3, true));
    assert_eq!((output.compressed_digest.as_deref(), output.toc_digest.as_deref()), (Some(BLOB), Some(TOC)));
    assert_eq!((output.uids, output.gids), ([0, 1000].into(), [0].into()));
    assert_eq!(output.big_data["zstd-chunked-manifest"], b"{}");
    assert_eq!(output.metadata, "pulled");
    let mut text = String::new();
    output.tar_split.unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "records");
    // Where layers are copies there is nothing below.
    assert_eq!(
        pull.lowers,
        usize::from(matches!(store.configuration().driver, Driver::Overlay | Driver::Aufs))
    );
}

/// The root of a layer looks like its parent's, and as the layer says if that knows better.
pub fn root_directory(store: &Store) {
    let mode = |layer: &LayerId| store.edit(layer, |root| fs::metadata(root).unwrap().permissions().mode());
    let base = store.create("base", None);
    store.edit(&base, |root| fs::set_permissions(root, fs::Permissions::from_mode(0o751)).unwrap());
    stage(store, Some(&base), &mut Pull::of(Tarball::of([]))).unwrap().0.commit(&id("like-parent")).unwrap();
    assert_eq!(mode(&id("like-parent")) & 0o7777, 0o751);
    let mut own = Chmod(0o1775);
    let create = CreateOptions::on(&base);
    let driver = store.graph().driver();
    let (staged, _) =
        driver.staged_apply().unwrap().stage_with(&create, &mut own, &LayerApplyOptions::default()).unwrap();
    staged.commit(&id("own")).unwrap();
    assert_eq!(mode(&id("own")) & 0o7777, 0o1775);
}

#[derive(Debug)]
struct Chmod(u32);

impl Differ for Chmod {
    fn fill(&mut self, directory: &RootDir, _: &ApplyOptions) -> Result<DifferOutput> {
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(self.0)).unwrap();
        Ok(DifferOutput::default())
    }
}

/// Nothing is left of what failed, was dropped or came too late.
pub fn leaves_nothing(store: &Store) {
    let base = store.create("base", None);
    let taken = store.create("taken", None);
    let before = store.files();
    let archive = Tarball::of([Entry::dir("dir"), Entry::file("dir/file", "data")]);
    for parent in [None, Some(&base)] {
        let mut lost = Pull { fails: true, ..Pull::of(archive.clone()) };
        fails(stage(store, parent, &mut lost), ErrorKind::Io);
        store.assert_files(&before);
        drop(stage(store, parent, &mut Pull::of(archive.clone())).unwrap());
        store.assert_files(&before);
        let (late, _) = stage(store, parent, &mut Pull::of(archive.clone())).unwrap();
        fails(late.commit(&taken), ErrorKind::LayerExists);
        store.assert_files(&before);
    }
    fails(stage(store, Some(&id("missing")), &mut Pull::of(archive.clone())), ErrorKind::ParentUnknown);
    // A driver may keep the parent from being removed; otherwise its removal is noticed.
    let (orphan, _) = stage(store, Some(&base), &mut Pull::of(archive.clone())).unwrap();
    match store.graph().remove(&base) {
        Ok(()) => drop(fails(orphan.commit(&id("orphan")), ErrorKind::ParentUnknown)),
        refused => {
            fails(refused, ErrorKind::LayerInUse);
            drop(orphan);
            store.remove(&base);
        }
    }
    assert_eq!(store.graph().layers().unwrap(), [taken]);
    // Where layers share one, it is on their file system, whose files it may link or share.
    if store.configuration().driver == Driver::Zfs {
        return;
    }
    let file = store.fill("file", None, &archive);
    let mut place = Place(store.edit(&file, |_| volume(&store.home())), false);
    let create = CreateOptions { kind: LayerKind::ReadWrite, ..CreateOptions::default() };
    let driver = store.graph().driver();
    drop(
        driver
            .staged_apply()
            .unwrap()
            .stage_with(&create, &mut place, &LayerApplyOptions::default())
            .unwrap(),
    );
    assert!(place.1);
}

/// Names a file system. Subvolumes of one have device numbers of their own.
fn volume(dir: &Path) -> String {
    match btrfs::volume_id(fs::File::open(dir).unwrap()) {
        Ok(id) => format!("{id:x?}"),
        Err(_) => fs::metadata(dir).unwrap().dev().to_string(),
    }
}

/// Tells whether it is on this file system.
#[derive(Debug)]
struct Place(String, bool);

impl Differ for Place {
    fn fill(&mut self, directory: &RootDir, _: &ApplyOptions) -> Result<DifferOutput> {
        self.1 = volume(directory.path()) == self.0;
        Ok(DifferOutput::default())
    }
}
