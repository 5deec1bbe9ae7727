//! Trees of layers: made from others, and made a layer's own.

use std::borrow::Cow;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use graphdriver_archive::{self as archive, RootDir};
use graphdriver_core::{Error, ErrorKind, HomeLock, LayerId, Result};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::home::Home;
use super::layer::{Form, LayerDir};
use super::note::Note;
use crate::create::DirectoryLook;
use crate::home_form::ROOT;
use crate::mount::{Attributes, OverlayMount, Parameters, Shape, Wishes};

/// Makes an empty directory that only its maker can use yet.
pub(super) fn make_private_dir(path: &Path) -> Result<RootDir> {
    DirBuilder::new().mode(0o700).create(path).map_err(|error| Error::io("mkdir", path, error))?;
    Ok(RootDir::open(path)?)
}

/// Fills the empty directory `to` with the tree of the layer, for a child of it. Tells whether the two share files.
///
/// # Errors
/// As [`archive::link_tree`]; `PermissionDenied` on a read-only file system.
pub(super) fn inherit(home: &Home, layer: &LayerDir, form: Form, to: &RootDir) -> Result<bool> {
    if form == Form::Upper {
        copy_shown(home, layer, to)?;
        return Ok(false);
    }
    // Nobody mounts it for writing meanwhile.
    let _lock = HomeLock::shared(layer.path())?;
    let from = RootDir::open(layer.root())?;
    let note = layer.note()?;
    if note.owns_files {
        if home.references.is_mounted(&layer.merged())? {
            archive::copy_tree(&from, to, &home.copy_options())?;
            return Ok(false);
        }
        layer.set_note(&Note { owns_files: false, ..note })?;
    }
    archive::link_tree(&from, to, &home.copy_options())?;
    Ok(true)
}

/// Copies what the layer shows into the empty directory `to`.
///
/// # Errors
/// As [`archive::copy_tree`]; as mounting, for a layer that has to be.
pub(super) fn copy_shown(home: &Home, layer: &LayerDir, to: &RootDir) -> Result<()> {
    let Some(form) = layer.form()? else {
        return Err(Error::syscall("open", layer.path(), Errno::ENOENT));
    };
    let shown = match form {
        Form::Tree => RootDir::open(layer.root())?,
        Form::Upper => mounted(home, layer)?,
    };
    Ok(archive::copy_tree(&shown, to, &home.copy_options())?)
}

/// What a layer with an upper directory shows, in a mount that is attached nowhere.
fn mounted(home: &Home, layer: &LayerDir) -> Result<RootDir> {
    let parts = home.parts(layer, Form::Upper)?;
    let lowers: Vec<Cow<'_, Path>> = parts.iter().map(|path| Cow::from(path.as_path())).collect();
    let dialect = home.support.dialect;
    let shape = Shape { upper: false, data_only: false };
    let target = layer.merged();
    let mount = OverlayMount {
        lowers: &lowers,
        data_only: &[],
        upper: None,
        target: &target,
        parameters: &Parameters::new(&Wishes::default(), dialect, shape)?,
        label: None,
        attributes: Attributes::READ_ONLY,
    };
    Ok(RootDir::from_fd(mount.detached(dialect.api)?, &target))
}

/// Makes sure that the files in the layer's tree have no names in other layers, so that they can be written to. The layer's own lock is held.
///
/// # Errors
/// `LayerInUse` while another layer is mounted on this tree, which would lose its files; as [`archive::copy_tree`]; `PermissionDenied` on a read-only file system.
pub(super) fn own_files(home: &Home, id: &LayerId, layer: &LayerDir) -> Result<()> {
    let note = layer.note()?;
    if note.owns_files {
        return Ok(());
    }
    if let Some(child) = home.mounted_on(id)? {
        let detail = format!(
            "layer {child}, which is mounted, lies on it and shares its files: mount it read-only, or unmount that layer"
        );
        return Err(Error::new(ErrorKind::LayerInUse, "mount").layer(id).detail(detail));
    }
    let temp_dir = home.temp_dirs.create()?;
    let to = temp_dir.path().join(ROOT);
    copy_shown(home, layer, &make_private_dir(&to)?)?;
    exchange(&to, &layer.root())?;
    // Those who read the old ones go on.
    home.keep_replaced(id, temp_dir);
    layer.set_note(&Note { owns_files: true, ..note })
}

/// Gives two directories each other's names, in one step where the file system can.
pub(super) fn exchange(new: &Path, old: &Path) -> Result<()> {
    match renameat2(AT_FDCWD, new, AT_FDCWD, old, RenameFlags::RENAME_EXCHANGE) {
        Err(Errno::EINVAL | Errno::ENOSYS) => {}
        result => return result.map_err(|errno| Error::syscall("rename", old, errno)),
    }
    let aside = new.with_extension("old");
    for (from, to) in [(old, aside.as_path()), (new, old)] {
        fs::rename(from, to).map_err(|error| Error::io("rename", from, error))?;
    }
    Ok(())
}

/// Makes the directory look so.
pub(super) fn dress(root: &RootDir, look: DirectoryLook, lenient: bool) -> Result<()> {
    graphdriver_core::trees::set_owner(root, look.owner, lenient)?;
    graphdriver_core::trees::set_mode(root.path(), look.mode)
}
