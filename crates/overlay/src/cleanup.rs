//! Putting a home in order: mounts that nobody uses any more, and what killed processes left.

use graphdriver_core::Result;

use crate::home::{self, Home};
use crate::layers;
use crate::mount;

/// Unmounts what nobody uses and deletes what killed processes left.
///
/// # Errors
/// The first failure; what can be cleaned is.
pub(crate) fn cleanup(home: &Home) -> Result<()> {
    let mut first = Ok(());
    for id in layers::list(&home.layout)? {
        let merged = home.layout.merged(&id);
        first = first.and(home.references.reclaim(&id, &merged, || mount::detach(&merged)).map(drop));
    }
    first.and(home::remove_leftovers(&home.layout).map(drop))
}
