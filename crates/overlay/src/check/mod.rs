//! What is amiss in a home, and mending it.
//!
//! A [`Survey`] reads all short names and stacks once; the other modules tell what does not fit. A repair writes only what is known from
//! elsewhere in the store, and deletes only what nobody can need.

mod images;
mod lent;
mod links;
mod repair;
mod stacks;
mod strays;
mod survey;

use graphdriver_core::{HomeLock, Problem, Result, stale_staging_dirs};

use crate::cleanup;
use crate::home::Home;

use repair::Finding;
use survey::Survey;

/// See [`Driver::check`](graphdriver_core::Driver::check).
pub(crate) fn check(home: &Home, repair: bool) -> Result<Vec<Problem>> {
    if repair && let Err(error) = cleanup::cleanup(home) {
        tracing::warn!(error = %error.report(), "not everything could be cleaned up");
    }
    let mut problems = Vec::new();
    for store in home.stores.own() {
        // Between two steps of another process nothing fits. Where the lock cannot be had because nothing can be written, nobody has to be kept off.
        let _lock = if repair {
            Some(HomeLock::exclusive(store.path())?)
        } else {
            HomeLock::shared(store.path()).ok()
        };
        let conclude = |finding: Finding| finding.conclude(home, store, repair);
        let survey = Survey::of(&home.stores, store)?;
        problems.extend(links::find(&survey).into_iter().map(conclude));
        // With the names that are mended now.
        let survey = if repair { Survey::of(&home.stores, store)? } else { survey };
        problems.extend(stacks::find(&survey).into_iter().map(conclude));
        problems.extend(images::find(&survey).into_iter().map(conclude));
        problems.extend(lent::find(&survey).into_iter().map(conclude));
        problems.extend(strays::find(home, &survey)?.into_iter().map(conclude));
        let leftovers = home.temp_dirs_of(store).leftovers()?.into_iter();
        let leftovers = leftovers.chain(stale_staging_dirs(store.path())?);
        problems.extend(leftovers.map(|path| Problem::leftover(path, repair)));
    }
    Ok(problems)
}
