//! Giving a layer's files other owners.

use graphdriver_archive as archive;
use graphdriver_core::{IdMaps, LayerId, Result};

use super::home::Home;
use super::layer::LayerDir;
use super::note::Note;
use super::tree::{copy_shown, exchange, make_private_dir};

/// Rewrites the owners of all that the layer shows. It becomes a tree that shares no files, in one step: a process that is killed leaves the old owners or the new ones.
///
/// # Errors
/// `LayerUnknown`; `LayerInUse`; `InvalidArgument` for an owner without mapping; `NoSpace`; `Io`.
pub(super) fn update(home: &Home, id: &LayerId, to_container: &IdMaps, to_host: &IdMaps) -> Result<()> {
    let (layer, _) = home.require("change owners of", id)?;
    let temp_dir = home.temp_dirs.create()?;
    home.references.while_unused(id, &layer.merged(), || {
        let parent = home.parent("change owners of", id)?;
        let new = LayerDir::new(temp_dir.path().join("layer"));
        make_private_dir(new.path())?;
        make_private_dir(&new.merged())?;
        let root = make_private_dir(&new.root())?;
        copy_shown(home, &layer, &root)?;
        archive::chown_tree(&root, to_container, to_host)?;
        archive::chown_root(&root, to_container, to_host)?;
        new.set_note(&Note { parent, owns_files: true })?;
        exchange(new.path(), layer.path())
    })?;
    temp_dir.delete()
}
