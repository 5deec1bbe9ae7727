//! Where layers of stores that are only read are mounted: directories in the run home, which are there as long as the mount.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use graphdriver_core::{Error, FsMagic, Result, fs_magic};

use crate::layout::LayerDir;
use crate::mount;
use crate::mount_program::MountProgram;

/// Makes the directory that the mount point of a layer which is not ours is made in. The layer's own lock is held.
pub(crate) fn make_room(layer: &LayerDir) -> Result<()> {
    if !layer.is_foreign() {
        return Ok(());
    }
    let path = layer.mounts();
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| Error::io("mkdir", path, error))
}

/// Unmounts the layer, and takes the mount point away again where it is not in the layer. The layer's own lock is held.
pub(crate) fn detach(layer: &LayerDir) -> Result<()> {
    let merged = layer.merged();
    // Told by what is there: the process that mounted it may have done so in the other way.
    if fs_magic(&merged).is_ok_and(|magic| magic == FsMagic::FUSE) {
        MountProgram::unmount(&merged)?;
    } else {
        mount::detach(&merged)?;
    }
    if layer.is_foreign() {
        remove(layer);
    }
    Ok(())
}

/// Takes away the directories of a layer that is not mounted.
fn remove(layer: &LayerDir) {
    for path in [&*layer.merged(), &*layer.empty(), layer.mounts()] {
        remove_empty(path);
    }
}

fn remove_empty(path: &Path) {
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::debug!(?path, %error, "the directory of a mount stays");
        }
        _ => {}
    }
}
