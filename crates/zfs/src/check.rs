//! What is amiss in a home.

use graphdriver_core::{Problem, Remedy, Result};

use crate::home::Home;
use crate::sweep;

/// See [`Driver::check`](graphdriver_core::Driver::check). A repair is what opening the home does.
pub(crate) fn check(home: &Home, repair: bool) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    if repair {
        // What fails is found, and told, below.
        let swept = home.temp_dirs.recover().and(sweep::sweep(home));
        if let Err(error) = swept {
            tracing::warn!(error = %error.report(), "repair");
        }
    }
    let leftovers = home.temp_dirs.leftovers()?.into_iter();
    problems.extend(leftovers.map(|path| Problem::leftover(path, repair)));
    let (datasets, snapshots) = sweep::leftovers(home)?;
    for name in datasets.into_iter().chain(snapshots) {
        let remedy = if repair {
            Remedy::Manual("it cannot be destroyed: `zfs destroy` says why".to_owned())
        } else {
            Remedy::Repairable("destroys it".to_owned())
        };
        problems.push(Problem {
            layer: None,
            path: home.mounts_dir().to_owned(),
            what: format!("{}/{name} was left by a process that is gone", home.pool.parent),
            remedy,
        });
    }
    Ok(problems)
}
