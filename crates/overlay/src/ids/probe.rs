//! Whether the home's file system can show other owners than it has, below an overlay mount.

use std::borrow::Cow;
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use graphdriver_core::{Error, ErrorKind, IdMap, IdMaps, Result};

use crate::mount::{
    self, Attributes, Composed, Dialect, IdMapping, OverlayMount, Parameters, Part, Shape, Shown, Wishes,
};

/// The owner that the trial's file is to be shown with.
const SHOWN: u32 = 1_000_000;

/// Tries id-mapped lower directories in `scratch`, an empty directory on the home's file system.
///
/// # Errors
/// `NotSupported` for a kernel or file system that cannot; `PermissionDenied` in a user namespace, which mostly cannot either; `Io`.
pub(crate) fn probe(scratch: &Path, dialect: Dialect, way: IdMapping) -> Result<()> {
    let make = |name: &str| {
        let path = scratch.join(name);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map(|()| path.clone()).map_err(|error| Error::io("mkdir", path, error))
    };
    let lowers = [make("lower")?, make("other")?];
    let merged = make("merged")?;
    let file = lowers[0].join("file");
    File::create(&file).map_err(|error| Error::io("create", &file, error))?;
    let owner = fs::metadata(&file).map_err(|error| Error::io("stat", &file, error))?;
    let map = |id| vec![IdMap { container_id: id, host_id: SHOWN, size: 1 }];
    let maps = IdMaps::new(map(owner.uid()), map(owner.gid()))?;
    try_mount(&lowers, &merged, &maps, dialect, way)
}

fn try_mount(
    lowers: &[PathBuf],
    merged: &Path,
    maps: &IdMaps,
    dialect: Dialect,
    way: IdMapping,
) -> Result<()> {
    let parts: Vec<Part<'_>> = lowers.iter().map(|path| Part::Directory(Cow::from(path))).collect();
    let shape = Shape { upper: false, data_only: false };
    let parameters = Parameters::new(&Wishes::default(), dialect, shape)?;
    let mount = OverlayMount {
        lowers: &[],
        data_only: &[],
        upper: None,
        target: merged,
        parameters: &parameters,
        label: None,
        attributes: Attributes::NONE,
    };
    let shown = Some(Shown { own: 0, maps, stores: &[] });
    Composed { mount, parts: &parts, shown, api: dialect.api, how: way }.attach()?;
    let shown = merged.join("file");
    let owner = fs::symlink_metadata(&shown).map(|metadata| (metadata.uid(), metadata.gid()));
    mount::detach(merged)?;
    match owner {
        Ok((SHOWN, SHOWN)) => Ok(()),
        Ok((uid, gid)) => Err(Error::new(ErrorKind::NotSupported, "map ids")
            .path(shown)
            .detail(format!("the file is shown as owned by {uid}:{gid}, not by {SHOWN}:{SHOWN}"))),
        Err(error) => Err(Error::io("stat", shown, error)),
    }
}
