//! Mounting a layer and giving it back.

use std::borrow::Cow;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use graphdriver_core::trees::unless_read_only;
use graphdriver_core::{Error, HomeLock, LayerId, MountOptions, Result, bind_read_only, unmount_lazily};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use super::home::Home;
use super::layer::{Form, LayerDir};
use super::tree::own_files;
use crate::get::explain;
use crate::mount::{Attributes, MountRequest, OverlayMount, Parameters, Shape, Upper};

/// Mounts the layer unless it is, takes a reference, and returns where it is mounted: a tree as a bind mount, an upper directory on its lower layer's tree by overlay.
///
/// # Errors
/// `LayerUnknown`; `InvalidArgument` for mount options that are not known; as mounting. A tree that shares files is copied before it is mounted for writing, with those errors.
pub(super) fn get(home: &Home, id: &LayerId, options: &MountOptions) -> Result<PathBuf> {
    let mut request = MountRequest::parse(&options.extra)?;
    if options.read_only {
        request.attributes = request.attributes.and(Attributes::READ_ONLY);
    }
    request.wishes.volatile |= options.volatile;
    let (layer, _) = home.require("mount", id)?;
    let merged = layer.merged();
    let on_disk = std::cell::Cell::new(false);
    home.references.acquire(id, &merged, options.persistent, || {
        // It may have been removed, or filled, while its lock was waited for.
        match home.require("mount", id)? {
            (layer, Form::Tree) => on_disk.set(bind(home, id, &layer, request.attributes)? == Bound::Nowhere),
            (layer, Form::Upper) => stack(home, &layer, &request, options.label.as_deref())?,
        }
        Ok(())
    })?;
    Ok(if on_disk.get() { layer.root() } else { merged })
}

/// Gives one reference back; the last one unmounts.
///
/// # Errors
/// `LayerUnknown`; `InvalidArgument` when nobody holds a reference; `Io` when unmounting failed.
pub(super) fn put(home: &Home, id: &LayerId) -> Result<()> {
    home.require("unmount", id)?;
    home.release(id)
}

#[derive(PartialEq, Eq)]
enum Bound {
    AtMountPoint,
    /// Docker's trees have no mount point, and on a read-only file system get none; nobody can write to them anyway.
    Nowhere,
}

fn bind(home: &Home, id: &LayerId, layer: &LayerDir, attributes: Attributes) -> Result<Bound> {
    let target = layer.merged();
    match ensure_dir(&target) {
        Err(error) if error.errno() == Some(Errno::EROFS) && attributes.is_read_only() => {
            return Ok(Bound::Nowhere);
        }
        made => made?,
    }
    if attributes == Attributes::READ_ONLY {
        bind_read_only(&layer.root(), &target)?;
        return Ok(Bound::AtMountPoint);
    }
    let _lock = if attributes.is_read_only() {
        None
    } else {
        // Nobody makes a child that shares the files between the look at them and the mount.
        let lock = HomeLock::exclusive(layer.path())?;
        own_files(home, id, layer)?;
        Some(lock)
    };
    bind_with(&layer.root(), &target, attributes)?;
    Ok(Bound::AtMountPoint)
}

fn bind_with(root: &Path, target: &Path, attributes: Attributes) -> Result<()> {
    let call = |source: Option<&Path>, flags| {
        mount(source, target, None::<&str>, flags, None::<&str>)
            .map_err(|errno| Error::syscall("mount", target, errno))
    };
    call(Some(root), MsFlags::MS_BIND)?;
    let attributes_set = call(None, MsFlags::MS_PRIVATE).and_then(|()| {
        if attributes == Attributes::NONE {
            return Ok(());
        }
        call(None, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | attributes.classic)
    });
    attributes_set.inspect_err(|_| {
        if let Err(error) = unmount_lazily(target) {
            tracing::warn!(error = %error.report(), "a mount that is not as it was asked for stays");
        }
    })
}

fn stack(home: &Home, layer: &LayerDir, request: &MountRequest, label: Option<&str>) -> Result<()> {
    let lower = home.lower(layer)?;
    // Nobody gives the tree below other files between the look at who is mounted on it and this mount.
    let _lock = match lower.parent() {
        Some(below) => HomeLock::shared(below).map(Some).or_else(unless_read_only)?,
        None => None,
    };
    let [upper, work, merged] = [layer.upper(), layer.work(), layer.merged()];
    ensure_dir(&merged)?;
    let read_only = request.attributes.is_read_only();
    let lowers: Vec<Cow<'_, Path>> = if read_only {
        vec![Cow::from(&*upper), Cow::from(&*lower)]
    } else {
        ensure_dir(&work)?;
        vec![Cow::from(&*lower)]
    };
    let dialect = home.support.dialect;
    let shape = Shape { upper: !read_only, data_only: false };
    let mount = OverlayMount {
        lowers: &lowers,
        data_only: &[],
        upper: (!read_only).then_some(Upper { directory: &upper, work: &work }),
        target: &merged,
        parameters: &Parameters::new(&request.wishes, dialect, shape)?,
        label: label.filter(|label| !label.is_empty()),
        attributes: request.attributes,
    };
    mount.attach(dialect.api).map_err(|error| if read_only { error } else { explain(error, &upper) })
}

/// Makes a directory that Docker makes only when it mounts, and takes away again.
fn ensure_dir(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().mode(0o700).create(path).map_err(|error| Error::io("mkdir", path, error))
        }
        _ => Ok(()),
    }
}
