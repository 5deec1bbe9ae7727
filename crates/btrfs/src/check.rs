//! What is amiss in a home.

use graphdriver_core::{ErrorKind, Problem, Remedy, Result};

use crate::home::Home;
use crate::subvolume::identity;

/// See [`Driver::check`](graphdriver_core::Driver::check). A repair is what opening the home and cleaning it up do: nothing else can be mended without loss.
pub(crate) fn check(home: &Home, repair: bool) -> Result<Vec<Problem>> {
    if repair {
        home.clean_up()?;
    }
    let mut problems = Vec::new();
    for id in home.layers.list()? {
        let path = home.layers.layer(&id);
        let is_subvolume = match home.layers.with_layer("check", &id, identity) {
            // Removed meanwhile.
            Err(error) if error.kind() == ErrorKind::LayerUnknown => continue,
            info => info?.is_some(),
        };
        if !is_subvolume {
            problems.push(Problem {
                what: "it is a directory, not a subvolume".to_owned(),
                layer: Some(id),
                remedy: Remedy::Manual(
                    "no layer can be made on it; apply its contents to a new layer".to_owned(),
                ),
                path,
            });
        }
    }
    for id in home.stray_limits()? {
        problems.push(Problem {
            path: home.quotas.path(&id),
            what: "it limits a layer that is not there".to_owned(),
            layer: None,
            remedy: Remedy::Repairable("removes it".to_owned()),
        });
    }
    let leftovers = home.temp_dirs.leftovers()?.into_iter();
    problems.extend(leftovers.map(|path| Problem::leftover(path, repair)));
    Ok(problems)
}
