//! Making an image of a layer that has been filled.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use graphdriver_archive::{RootDir, erofs};
use graphdriver_core::{Error, Owner, Result};
use graphdriver_sys::verity;
use nix::errno::Errno;

use crate::create::{DirectoryLook, make_dir};
use crate::layout::{COMPOSEFS_BLOB, COMPOSEFS_DATA, DIFF};

/// Keeps what the layer in `layer`, which nobody has seen yet, adds as an image. `scratch` is a directory on the same file system.
///
/// # Errors
/// As [`erofs::pack`].
pub(crate) fn keep_as_image(layer: &Path, scratch: &Path) -> Result<()> {
    let diff = layer.join(DIFF);
    let objects = scratch.join("objects");
    // Children look like this directory.
    make_dir(&objects, DirectoryLook::of(&diff)?, false)?;
    let data = layer.join(COMPOSEFS_DATA);
    make_dir(&data, DirectoryLook { mode: 0o700, owner: Owner::default() }, false)?;
    let blob = data.join(COMPOSEFS_BLOB);
    let packed = write_image(&blob, &RootDir::open(&diff)?, &RootDir::open(&objects)?)?;
    tracing::debug!(?packed, "made an image of the layer");
    if packed.verity {
        guard(&blob)?;
    }
    rename(&diff, &scratch.join("packed"))?;
    // Now, because other names of objects are in it, and removing those changes them.
    RootDir::open(scratch)?.remove_all(Path::new("packed"))?;
    rename(&objects, &diff)?;
    for dir in [&*data, layer] {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| Error::io("fsync", dir, error))?;
    }
    Ok(())
}

fn write_image(blob: &Path, tree: &RootDir, objects: &RootDir) -> Result<erofs::Packed> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o644).open(blob);
    let mut image = BufWriter::new(opened.map_err(|error| Error::io("open", blob, error))?);
    let packed = erofs::pack(tree, objects, &mut image)?;
    let written = image.flush().and_then(|()| image.get_ref().sync_all());
    written.map_err(|error| Error::io("write image", blob, error))?;
    Ok(packed)
}

/// Lets the kernel check what is read of the image.
fn guard(blob: &Path) -> Result<()> {
    let file = File::open(blob).map_err(|error| Error::io("open", blob, error))?;
    match verity::enable(&file) {
        Ok(()) | Err(Errno::ENOTTY | Errno::EOPNOTSUPP) => Ok(()),
        Err(errno) => Err(Error::syscall("enable verity", blob, errno)),
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|error| Error::io("rename", from, error))
}
