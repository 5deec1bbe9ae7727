//! Layers that are kept as an image: what a layer adds is an EROFS image of its metadata, and the contents of its files, each once, under the names of their digests.
//!
//! The form is that of containers/storage with its option `use_composefs`. To be a lower layer the image is mounted, and its contents lie below all
//! layers as one for data only.

mod leftovers;
mod make;
mod probe;

use graphdriver_core::{Error, ErrorKind, Result};

use crate::home::Home;
use crate::mount::{IdMapping, Part, is_plain_image};
use crate::options::OverlayOptions;
use crate::probe::{Feature, Probes, Verdict};

pub(crate) use leftovers::unmount_leftovers;
pub(crate) use make::keep_as_image;
pub(crate) use probe::probe;

/// Whether layers can be images here: how they are mounted, or why not.
pub(crate) fn find(probes: &Probes, wanted: Option<IdMapping>) -> Result<IdMapping, String> {
    let mut reason = String::new();
    for way in [IdMapping::Detached, IdMapping::Namespace] {
        if wanted.is_some_and(|wanted| wanted != way) {
            continue;
        }
        match probes.verdict(Feature::of_images(way)) {
            Verdict::On => return Ok(way),
            Verdict::Off(why) => reason = why,
        }
    }
    Err(reason)
}

/// How a mount of these parts is made; it is of no account where there is no image among them.
///
/// # Errors
/// `NotSupported` where there can be none, with the reason.
pub(crate) fn how_for(home: &Home, parts: &[Part<'_>]) -> Result<IdMapping> {
    if !parts.iter().any(Part::is_image) {
        return Ok(IdMapping::Detached);
    }
    find(&home.probes, home.tuning.id_mapping).map_err(|reason| {
        let detail =
            format!("a layer is kept as an image (composefs), which cannot be mounted here: {reason}");
        Error::new(ErrorKind::NotSupported, "mount").detail(detail)
    })
}

/// Whether what a layer changes can be told from these parts without a mount: not where there is an image with marks of its own.
///
/// # Errors
/// `Io`.
pub(crate) fn tell_changes(parts: &[&Part<'_>]) -> Result<bool> {
    for part in parts.iter().filter(|part| part.is_image()) {
        if !is_plain_image(part.path())? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Refuses the option `use_composefs` where it cannot be had: as an invalid argument, so that no other driver is chosen, which would do without.
///
/// # Errors
/// `InvalidArgument` with the reason.
pub(crate) fn check(options: &OverlayOptions, probes: &Probes, wanted: Option<IdMapping>) -> Result<()> {
    if !options.use_composefs {
        return Ok(());
    }
    let reason = if options.mount_program.is_some() {
        Some("layers are mounted by the mount program".to_owned())
    } else {
        find(probes, wanted).err()
    };
    let Some(reason) = reason else { return Ok(()) };
    let detail = format!("use_composefs cannot be had: {reason}");
    Err(Error::new(ErrorKind::InvalidArgument, "open").detail(detail))
}
