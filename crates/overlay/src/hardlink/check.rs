//! What is amiss in a home.

use graphdriver_core::{LayerId, Problem, Remedy, Result};

use super::home::Home;
use super::layer::Form;

/// See [`Driver::check`](graphdriver_core::Driver::check). A repair is what opening the home and cleaning it up do: nothing else can be mended without loss.
pub(super) fn check(home: &Home, repair: bool) -> Result<Vec<Problem>> {
    if repair {
        home.clean_up()?;
    }
    let mut problems = Vec::new();
    for id in home.directories()? {
        problems.extend(check_layer(home, &id)?);
    }
    let leftovers = home.temp_dirs.leftovers()?.into_iter();
    problems.extend(leftovers.map(|path| Problem::leftover(path, repair)));
    Ok(problems)
}

fn check_layer(home: &Home, id: &LayerId) -> Result<Option<Problem>> {
    let layer = home.layer(id);
    let path = layer.path().to_owned();
    let problem = |what: String, advice: &str| Problem {
        path,
        what,
        layer: Some(id.clone()),
        remedy: Remedy::Manual(advice.to_owned()),
    };
    let form = match layer.form()? {
        // Removed meanwhile.
        None if !layer.path().is_dir() => return Ok(None),
        None => {
            let advice = "Docker makes such a directory when it removes a layer and is killed; delete it if nothing in it is wanted";
            return Ok(Some(problem("it is no layer: it has neither root nor upper".to_owned(), advice)));
        }
        Some(form) => form,
    };
    if form == Form::Upper
        && let Err(error) = home.lower(&layer)
    {
        let advice = "it cannot be mounted; what it changes is in its directory upper";
        return Ok(Some(problem(error.to_string(), advice)));
    }
    match layer.note()?.parent {
        Some(parent) if !home.exists(&parent)? => Ok(Some(problem(
            format!("its parent {parent} is missing"),
            "the layer is whole; only a diff against its parent cannot be had",
        ))),
        _ => Ok(None),
    }
}
