//! A layer through id maps, on a mount that only who asked for it sees.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use graphdriver_core::{DetachedMount, Error, ErrorKind, IdMaps, LayerId, MountOptions, Result};

use crate::get;
use crate::hold::Hold;
use crate::home::Home;
use crate::layout::Layout;
use crate::lowers::{self, MAX_LOWERS};
use crate::mount::{Composed, OverlayMount, Parameters, Part, Shape, Shown};

/// Mounts the layer read-only, attached nowhere, with all owners shown through `maps`, those of the layer's own files too.
///
/// # Errors
/// `LayerUnknown`; `NotSupported` where the kernel cannot map ids, or does not mount; `InvalidArgument` for a layer that has one directory more than can be below, for
/// mount options of the driver that are wrong, and for maps that cannot be had; as [`Composed::detached`].
pub(crate) fn mount(home: &Arc<Home>, id: &LayerId, maps: &IdMaps) -> Result<DetachedMount> {
    let operation = "mount";
    let Some(how) = home.shifting.how() else {
        let reason = home.shifting.reason().unwrap_or("the mount program makes none but attached mounts");
        return Err(Error::new(ErrorKind::NotSupported, operation).detail(reason));
    };
    let hold = Hold::take(home, operation, id)?;
    let request = get::request(home, &MountOptions::read_only())?;
    let below = lowers::resolve(&home.stores, hold.layer())?;
    let mut parts = hold.layer().parts();
    parts.extend(lowers::parts(&below).cloned());
    // The kernel wants something below. It stays for as long as the mount, since a directory that is removed cannot be read.
    let empty = if parts.len() < 2 { Some(home.temp_dirs.create()?) } else { None };
    parts.extend(empty.as_ref().map(|empty| Part::Directory(Cow::from(empty.path().to_owned()))));
    let own_objects = hold.layer().objects();
    let objects = own_objects.as_deref().into_iter().chain(lowers::objects(&below));
    let data_only: Vec<Cow<'_, Path>> = objects.map(Cow::from).collect();
    let lowers = parts.len() + data_only.len();
    if lowers > MAX_LOWERS {
        let detail = format!("the kernel stacks {MAX_LOWERS} directories, and it has {lowers}");
        return Err(Error::new(ErrorKind::InvalidArgument, operation).detail(detail));
    }
    let dialect = home.support.dialect;
    let shape = Shape { upper: false, data_only: !data_only.is_empty() };
    let parameters = Parameters::new(&request.wishes, dialect, shape)?;
    let mount = OverlayMount {
        lowers: &[],
        data_only: &data_only,
        upper: None,
        target: hold.layer().path(),
        parameters: &parameters,
        label: None,
        attributes: request.attributes,
    };
    let stores: Vec<&Path> = home.stores.all().map(Layout::path).collect();
    let shown = Some(Shown { own: 0, maps, stores: &stores });
    let mount = Composed { mount, parts: &parts, shown, api: dialect.api, how }.detached()?;
    Ok(DetachedMount::new(id, mount, (empty, hold)))
}
