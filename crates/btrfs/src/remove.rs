//! Removing layers: out of sight by one rename, then destroyed with all subvolumes inside.

use graphdriver_core::{DeferredRemoval, Error, ErrorKind, LayerId, Result};
use graphdriver_sys::btrfs::subvolume;

use crate::get::unmount_for_readers;
use crate::home::Home;
use crate::subvolume::info;

/// Takes the layer out of sight.
///
/// # Errors
/// `LayerUnknown`; `LayerInUse` while somebody holds a reference, or another layer was made on it; `Io`.
pub(crate) fn remove(home: &Home, id: &LayerId) -> Result<DeferredRemoval> {
    home.require("remove", id)?;
    let temp_dir = home.temp_dirs.create()?;
    let _lock = home.lock()?;
    // A snapshot does not need what it was made of, but who told the parent by its identity would find none.
    if let Some(child) = child_of(home, id)? {
        let detail = format!("layer {child} was made on it");
        return Err(Error::new(ErrorKind::LayerInUse, "remove").layer(id).detail(detail));
    }
    let path = home.layer(id);
    home.references.while_unused(id, &path, || {
        unmount_for_readers(home, id)?;
        temp_dir.take_in(&path)
    })?;
    home.quotas.forget(id)?;
    Ok(DeferredRemoval::new(move || temp_dir.delete()))
}

fn child_of(home: &Home, id: &LayerId) -> Result<Option<LayerId>> {
    let root = home.open_layer("remove", id)?;
    let is_subvolume =
        subvolume::is_subvolume(&root).map_err(|errno| Error::syscall("fstatfs", root.path(), errno))?;
    // Of a directory that somebody put there, nothing can have been made.
    if is_subvolume { home.child_of(info(&root)?.uuid) } else { Ok(None) }
}
