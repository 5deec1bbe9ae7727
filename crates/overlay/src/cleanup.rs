//! Putting a home in order: mounts that nobody uses any more, and what killed processes left.

use graphdriver_core::Result;

use crate::home::{self, Home};
use crate::mount_point;

/// Unmounts what nobody uses and deletes what killed processes left.
///
/// # Errors
/// The first failure; what can be cleaned is.
pub(crate) fn cleanup(home: &Home) -> Result<()> {
    let mut first = Ok(());
    for layer in home.stores.layers()?.into_iter().chain(home.stores.mounted_elsewhere()?) {
        let reclaimed = home.references.reclaim(layer.id(), &layer.merged(), || mount_point::detach(&layer));
        first = first.and(reclaimed.map(drop));
    }
    for store in home.stores.own() {
        first = first.and(home::remove_leftovers(store).map(drop));
    }
    first
}
