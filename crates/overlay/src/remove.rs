//! Removing layers: out of sight by one rename, then deleted.

use std::fs;

use graphdriver_core::{DeferredRemoval, Error, ErrorKind, LayerId, Result};

use crate::additional_layer;
use crate::composefs;
use crate::exact;
use crate::home::Home;
use crate::layout::{LayerDir, Layout};
use crate::link::{self, LinkId};
use crate::lowers;
use crate::stores::Stores;

/// Takes the layer out of sight. A directory of its name that is no complete layer goes too.
///
/// # Errors
/// `LayerUnknown`; `LayerInUse` while it is mounted, or another layer lies on it; `Io`.
pub(crate) fn remove(home: &Home, id: &LayerId) -> Result<DeferredRemoval> {
    let (store, layer) = find(&home.stores, id)?;
    let temp_dir = home.temp_dirs_of(store).create()?;
    let _locks = home.stores.lock()?;
    // It may have been removed while the lock was waited for.
    require_dir(&layer)?;
    let link = link::find(store, &layer)?;
    no_child_of(&home.stores, "remove", &layer, link.as_ref())?;
    let lent = additional_layer::read(&layer).unwrap_or_else(|error| {
        tracing::warn!(layer = %id, error = %error.report(), "the note of an additional layer store is lost");
        None
    });
    home.references.while_unused(id, &layer.merged(), || {
        composefs::unmount_leftovers(&layer)?;
        let aside = temp_dir.take_in(layer.path())?;
        home.quotas.end(&aside);
        Ok(())
    })?;
    exact::remove(store.path(), &layer);
    if let Some(link) = link {
        link::remove(store, &link)?;
    }
    if let Some(lent) = lent {
        additional_layer::release(&lent);
    }
    Ok(DeferredRemoval::new(move || temp_dir.delete()))
}

/// # Errors
/// `LayerInUse` when another layer lies on this one; `Io`.
pub(crate) fn require_no_child(stores: &Stores, operation: &'static str, layer: &LayerDir) -> Result<()> {
    no_child_of(stores, operation, layer, link::read(layer)?.as_ref())
}

fn no_child_of(
    stores: &Stores,
    operation: &'static str,
    layer: &LayerDir,
    link: Option<&LinkId>,
) -> Result<()> {
    let Some(child) = child_of(stores, layer, link)? else { return Ok(()) };
    let detail = format!("layer {} lies on it", child.id());
    Err(Error::new(ErrorKind::LayerInUse, operation).layer(layer.id()).detail(detail))
}

/// What is there of the layer in a store of ours: complete if that is to be had.
fn find<'a>(stores: &'a Stores, id: &LayerId) -> Result<(&'a Layout, LayerDir)> {
    let found = stores.find(id)?;
    if let Some(layer) = found.as_ref().filter(|layer| !layer.is_foreign()) {
        return Ok((stores.store_of(layer), layer.clone()));
    }
    let mut ours = stores.own().map(|store| (store, store.layer(id)));
    match ours.find(|(_, layer)| require_dir(layer).is_ok()) {
        Some(incomplete) => Ok(incomplete),
        None => {
            Err(found
                .map_or_else(|| Error::layer_unknown("remove", id), |foreign| foreign.not_ours("remove")))
        }
    }
}

fn require_dir(layer: &LayerDir) -> Result<()> {
    let is_dir = fs::symlink_metadata(layer.path()).is_ok_and(|metadata| metadata.is_dir());
    if is_dir { Ok(()) } else { Err(Error::layer_unknown("remove", layer.id())) }
}

/// A layer whose direct parent is `id`; the layers on that one name it too, but are not needed to tell.
fn child_of(stores: &Stores, layer: &LayerDir, link: Option<&LinkId>) -> Result<Option<LayerDir>> {
    for other in stores.layers()? {
        let parent = lowers::first(&other)?;
        if parent.is_some_and(|parent| parent.names(layer.id(), link)) {
            return Ok(Some(other));
        }
    }
    Ok(None)
}
