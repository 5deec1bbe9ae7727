//! What is amiss in a home.

use graphdriver_core::{Problem, Remedy, Result};

use crate::home::Home;

/// See [`Driver::check`](graphdriver_core::Driver::check). A repair is what opening the home and cleaning it up do: nothing else can be mended without loss.
pub(crate) fn check(home: &Home, repair: bool) -> Result<Vec<Problem>> {
    if repair {
        home.clean_up()?;
    }
    let mut problems = Vec::new();
    for id in home.layers.list()? {
        let Some(note) = home.note(&id)? else { continue };
        if !home.layers.exists(&note.parent)? {
            problems.push(Problem {
                path: home.layers.layer(&id),
                what: format!("its parent {} is missing", note.parent),
                layer: Some(id),
                remedy: Remedy::Manual(
                    "the layer is whole; only a diff against its parent cannot be had".to_owned(),
                ),
            });
        }
    }
    let leftovers = home.temp_dirs.leftovers()?.into_iter();
    problems.extend(leftovers.map(|path| Problem::leftover(path, repair)));
    Ok(problems)
}
