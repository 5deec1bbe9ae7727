//! Mounting a layer and giving it back.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use graphdriver_core::{Error, ErrorKind, LayerId, MountOptions, Result};
use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, statvfs};

use crate::committed;
use crate::create::{DirectoryLook, make_dir};
use crate::home::Home;
use crate::ids;
use crate::layout::{LayerDir, Layout};
use crate::lowers::{self, MAX_LOWERS};
use crate::mask::{self, Writing};
use crate::mount::{self, Attributes, IdMapped, MountRequest, OverlayMount, Parameters, Shape, Upper};
use crate::mount_point;
use crate::mount_program::ProgramMount;
use crate::probe::{Feature, Verdict};

/// Mounts the layer unless it is, takes a reference, and returns where it is mounted. One that Docker has marked as committed is mounted read-only.
///
/// # Errors
/// `LayerUnknown`; `LayerInUse` when it is mounted through other id maps; `InvalidArgument` for mount options that are not known; as
/// [`OverlayMount::attach`] and [`IdMapped::attach`].
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
    let [work, merged, empty] = [layer.work(), layer.merged(), layer.empty()];
    let own = layer.diffs();
    let (diff, rotated) = own.split_first().ok_or_else(|| Error::layer_unknown("mount", layer.id()))?;
    let below = lowers::resolve(&home.stores, layer)?;
    // Only layers below have the container's ids on disk.
    let mut own_lowers = rotated.len();
    let mut lowers: Vec<Cow<'_, Path>> =
        rotated.iter().map(PathBuf::as_path).chain(lowers::directories(&below)).map(Cow::from).collect();
    mount_point::make_room(layer)?;
    ensure_dir(&merged, home)?;
    // A base layer has nothing below, but the kernel wants something there.
    if lowers.is_empty() {
        ensure_dir(&empty, home)?;
        lowers.push(Cow::from(&empty));
    }
    // Read-only layers need no work directory, and share their upper directory with nobody. Where the layer would be one directory too many
    // below, it stays above, and only the mount is read-only.
    let mut read_only = attributes.is_read_only() || layer.is_read_only();
    let writing = if read_only { Writing::Plain } else { mask::writing(home, diff)? };
    read_only |= writing == Writing::Refused;
    let upper = if read_only && lowers.len() < MAX_LOWERS {
        lowers.insert(0, Cow::from(diff));
        own_lowers += 1;
        None
    } else if layer.is_read_only() || writing == Writing::Refused {
        let detail = format!(
            "the kernel stacks {MAX_LOWERS} directories that are only read, and it has {} below",
            lowers.len()
        );
        return Err(Error::new(ErrorKind::InvalidArgument, "mount").path(layer.path()).detail(detail));
    } else {
        ensure_dir(&work, home)?;
        Some(Upper { directory: diff, work: &work })
    };
    let label = options.label.as_deref().filter(|label| !label.is_empty());
    if let Some(program) = &home.mount_program {
        let lowers: Vec<&Path> = lowers.iter().map(AsRef::as_ref).collect();
        let id_maps = &ids::for_program(home, &options.id_maps);
        let notes = writing == Writing::Noted;
        let mount =
            ProgramMount { lowers: &lowers, upper, notes, target: &merged, id_maps, label, attributes };
        let writes = upper.is_some() && !attributes.is_read_only();
        return program.mount(&mount).map_err(|error| if writes { explain(error, diff) } else { error });
    }
    let dialect = home.support.dialect;
    let shape = Shape { upper: upper.is_some(), data_only: false };
    let parameters = Parameters::new(&request.wishes, dialect, shape)?;
    let mount = OverlayMount {
        lowers: &lowers,
        data_only: &[],
        upper,
        target: &merged,
        parameters: &parameters,
        label,
        attributes,
    };
    let writes = mount.upper.is_some() && !attributes.is_read_only();
    let attached = match ids::mapping(home, &options.id_maps) {
        Some(how) if !below.is_empty() => {
            let stores: Vec<&Path> = home.stores.all().map(Layout::path).collect();
            IdMapped { mount, own: own_lowers, maps: &options.id_maps, stores: &stores }
                .attach(dialect.api, how)
        }
        _ => mount.attach(dialect.api),
    };
    attached.map_err(|error| if writes { explain(error, diff) } else { error })
}

/// The kernel calls it an invalid argument, and a program whatever it likes, that the upper directory cannot be written to.
fn explain(error: Error, upper: &Path) -> Error {
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
