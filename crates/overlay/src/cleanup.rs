//! Putting a home in order: mounts that nobody uses any more, and what killed processes left.

use graphdriver_core::Result;

use crate::home::{self, Home};
use crate::mount;

/// Unmounts what nobody uses and deletes what killed processes left.
///
/// # Errors
/// The first failure; what can be cleaned is.
pub(crate) fn cleanup(home: &Home) -> Result<()> {
    let mut first = Ok(());
    for layer in home.stores.layers()? {
        let merged = layer.merged();
        first = first.and(home.references.reclaim(layer.id(), &merged, || mount::detach(&merged)).map(drop));
    }
    first.and(home::remove_leftovers(home.stores.home()).map(drop))
}
