//! Removing what killed processes left in the pool.

use graphdriver_core::Result;

use crate::busy;
use crate::home::Home;

/// Removes datasets and snapshots in the making whose temporary directory is gone; the first failure is told, all else is removed.
///
/// To be called after the temporary directories were swept. A directory is made before what is named after it and removed after that, so what was listed and has no directory is nobody's.
pub(crate) fn sweep(home: &Home) -> Result<()> {
    let (datasets, snapshots) = leftovers(home)?;
    let mut first = Ok(());
    for name in datasets {
        // Opening a home does not wait for what keeps it busy, which may be for long.
        let destroyed = home.pool.parent.child(&name).and_then(|dataset| {
            home.pool.destroy_if_idle(&dataset).map_err(|failure| busy::explain(home, &dataset, failure))
        });
        first = first.and(destroyed);
    }
    for name in snapshots {
        let snapshot = format!("{}/{name}", home.pool.parent);
        let destroyed = home.pool.destroy_snapshot(&snapshot);
        first = first.and(destroyed.map_err(|failure| failure.during("destroy snapshot")));
    }
    first
}

/// Datasets and snapshots (`layer@name`) whose temporary directory is gone.
pub(crate) fn leftovers(home: &Home) -> Result<(Vec<String>, Vec<String>)> {
    let inventory = home.pool.inventory()?;
    let is_left = |name: &String| {
        let directory = home.temp_names.directory_of(name);
        directory.is_some_and(|directory| !home.temp_dir(directory).exists())
    };
    let datasets = inventory.datasets.into_iter().filter(is_left).collect();
    let snapshots = inventory.snapshots.into_iter().filter(is_left).collect();
    Ok((datasets, snapshots))
}
