//! Mounting a layer and giving it back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use graphdriver_core::{Error, LayerId, MountOptions, Result};
use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, statvfs};

use crate::committed;
use crate::composefs;
use crate::create::{DirectoryLook, make_dir};
use crate::home::Home;
use crate::ids;
use crate::layout::{LayerDir, Layout};
use crate::mask::{self, Writing};
use crate::mount::{
    self, Attributes, Composed, MountRequest, OverlayMount, Parameters, Part, Shape, Shown, Upper,
};
use crate::mount_point;
use crate::mount_program::ProgramMount;
use crate::probe::{Feature, Verdict};
use crate::stack::Stack;

/// Mounts the layer unless it is, takes a reference, and returns where it is mounted. One that Docker has marked as committed is mounted read-only.
///
/// # Errors
/// `LayerUnknown`; `LayerInUse` when it is mounted through other id maps; `InvalidArgument` for mount options that are not known; as
/// [`Composed::attach`].
pub(crate) fn get(home: &Home, id: &LayerId, options: &MountOptions) -> Result<PathBuf> {
    let mut request = request(home, options)?;
    let layer = home.stores.require("mount", id)?;
    let merged = layer.merged();
    let mount = || {
        // It may have been removed while its lock was waited for.
        layer.require("mount")?;
        ids::finish(&layer)?;
        if committed::is_marked(&layer)? {
            request.attributes = request.attributes.and(Attributes::READ_ONLY);
        }
        mount_layer(home, &layer, options, request)
    };
    let manner = ids::manner(home, &options.id_maps);
    home.references.acquire_in(id, &merged, options.persistent, &manner, mount)?;
    Ok(merged)
}

/// Gives one reference back; the last one unmounts.
///
/// # Errors
/// `LayerUnknown`; `InvalidArgument` when nobody holds a reference; `Io` when unmounting failed.
pub(crate) fn put(home: &Home, id: &LayerId) -> Result<()> {
    let layer = home.stores.require("unmount", id)?;
    home.references.release(id, &layer.merged(), || mount_point::detach(&layer))
}

/// What the driver's and the caller's options ask for together.
pub(crate) fn request(home: &Home, options: &MountOptions) -> Result<MountRequest> {
    let mut request = MountRequest::parse(&mount::merge(&home.options.mount_options, &options.extra))?;
    if options.read_only {
        request.attributes = request.attributes.and(Attributes::READ_ONLY);
    }
    request.wishes.volatile |= options.volatile;
    if request.wishes.metacopy == Some(true)
        && let Verdict::Off(reason) = home.probes.verdict(Feature::Metacopy)
    {
        tracing::warn!(reason, "metacopy=on is dropped: it cannot be had here");
        request.wishes.metacopy = None;
    }
    Ok(request)
}

fn mount_layer(home: &Home, layer: &LayerDir, options: &MountOptions, request: MountRequest) -> Result<()> {
    let attributes = request.attributes;
    let [diff, work, merged] = [layer.diff(), layer.work(), layer.merged()];
    let read_only = attributes.is_read_only() || layer.is_read_only();
    let writing = if read_only { Writing::Plain } else { mask::writing(home, &diff)? };
    let never_written = layer.is_read_only() || writing == Writing::Refused;
    let stack = Stack::of(home, layer, read_only, never_written)?;
    mount_point::make_room(layer)?;
    ensure_dir(&merged, home)?;
    ensure_dirs_of(&stack, layer, home)?;
    let upper = stack.has_upper.then_some(Upper { directory: &diff, work: &work });
    let label = options.label.as_deref().filter(|label| !label.is_empty());
    let shape = Shape { upper: upper.is_some(), data_only: !stack.objects.is_empty() };
    let dialect = home.support.dialect;
    let how = composefs::how_for(home, &stack.parts)?;
    let attached = if let Some(program) = &home.mount_program {
        let lowers: Vec<&Path> = stack.parts.iter().map(Part::path).collect();
        let id_maps = &ids::for_program(home, &options.id_maps);
        let notes = writing == Writing::Noted;
        let target = &merged;
        program.mount(&ProgramMount { lowers: &lowers, upper, notes, target, id_maps, label, attributes })
    } else {
        let parameters = &Parameters::new(&request.wishes, dialect, shape)?;
        let mount = OverlayMount {
            lowers: &[],
            data_only: &stack.objects,
            upper,
            target: &merged,
            parameters,
            label,
            attributes,
        };
        // Only layers below have the container's ids on disk.
        let mapping = ids::mapping(home, &options.id_maps).filter(|_| stack.has_parents);
        let stores: Vec<&Path> = home.stores.all().map(Layout::path).collect();
        let shown = mapping.map(|_| Shown { own: stack.own, maps: &options.id_maps, stores: &stores });
        Composed { mount, parts: &stack.parts, shown, api: dialect.api, how: mapping.unwrap_or(how) }.attach()
    };
    let writes = stack.has_upper && !attributes.is_read_only();
    attached.map_err(|error| if writes { explain(error, &diff) } else { error })
}

/// Makes what a mount needs besides its mount point, and other programs make only when they mount.
fn ensure_dirs_of(stack: &Stack, layer: &LayerDir, home: &Home) -> Result<()> {
    let empty = layer.empty();
    if stack.parts.iter().any(|part| part.path() == empty) {
        ensure_dir(&empty, home)?;
    }
    if stack.has_upper { ensure_dir(&layer.work(), home) } else { Ok(()) }
}

/// The kernel calls it an invalid argument, and a program whatever it likes, that the upper directory cannot be written to.
pub(crate) fn explain(error: Error, upper: &Path) -> Error {
    match statvfs(upper) {
        Ok(found) if found.flags().contains(FsFlags::ST_RDONLY) => {
            tracing::debug!(error = %error.report(), "mount on a read-only file system");
            Error::syscall("mount for writing", upper, Errno::EROFS)
        }
        _ => error,
    }
}

/// Makes a directory that other programs make only when they mount.
fn ensure_dir(path: &Path, home: &Home) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let owner =
                path.parent().map(DirectoryLook::of).transpose()?.map(|look| look.owner).unwrap_or_default();
            make_dir(path, DirectoryLook { mode: 0o700, owner }, home.options.ignore_chown_errors)
        }
        _ => Ok(()),
    }
}
