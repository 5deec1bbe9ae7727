//! Whether images can be mounted from the home's file system, below an overlay mount.

use std::borrow::Cow;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use graphdriver_archive::whiteout::OverlayXattrs;
use graphdriver_core::{Error, ErrorKind, Result};

use super::keep_as_image;
use crate::layout::{COMPOSEFS_BLOB, COMPOSEFS_DATA, DIFF};
use crate::mount::{
    self, Attributes, Composed, Dialect, IdMapping, OverlayMount, Parameters, Part, Shape, Wishes,
};

const CONTENTS: &[u8] = b"contents";

/// Makes an image in `scratch`, an empty directory on the home's file system, and mounts it.
///
/// # Errors
/// `NotSupported` for a kernel or file system that cannot; `Io`.
pub(crate) fn probe(scratch: &Path, dialect: Dialect, way: IdMapping) -> Result<()> {
    if dialect.xattrs == OverlayXattrs::User {
        let detail = "not in a user namespace, where no image can be mounted";
        return Err(Error::new(ErrorKind::NotSupported, "mount image").detail(detail));
    }
    let make = |path: PathBuf| {
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map(|()| path.clone()).map_err(|error| Error::io("mkdir", path, error))
    };
    let layer = make(scratch.join("layer"))?;
    let diff = make(layer.join(DIFF))?;
    let file = diff.join("file");
    fs::write(&file, CONTENTS).map_err(|error| Error::io("write", file, error))?;
    keep_as_image(&layer, scratch)?;
    try_mount(&layer, &make(scratch.join("merged"))?, dialect, way)
}

fn try_mount(layer: &Path, merged: &Path, dialect: Dialect, how: IdMapping) -> Result<()> {
    let shape = Shape { upper: false, data_only: true };
    let parameters = &Parameters::new(&Wishes::default(), dialect, shape)?;
    let mount = OverlayMount {
        lowers: &[],
        data_only: &[Cow::from(layer.join(DIFF))],
        upper: None,
        target: merged,
        parameters,
        label: None,
        attributes: Attributes::NONE,
    };
    let parts = &[Part::Image(Cow::from(layer.join(COMPOSEFS_DATA).join(COMPOSEFS_BLOB)))];
    Composed { mount, parts, shown: None, api: dialect.api, how }.attach()?;
    let shown = merged.join("file");
    let read = fs::read(&shown);
    mount::detach(merged)?;
    match read {
        Ok(contents) if contents == CONTENTS => Ok(()),
        Ok(_) => Err(Error::new(ErrorKind::NotSupported, "mount image")
            .path(shown)
            .detail("the file is shown without its contents")),
        Err(error) => Err(Error::io("read", shown, error)),
    }
}
