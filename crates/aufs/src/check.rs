//! What is amiss in a home.

use graphdriver_core::{Problem, Remedy, Result};

use crate::branches;
use crate::home::Home;

/// See [`Driver::check`](graphdriver_core::Driver::check). A repair is what opening the home and cleaning it up do: nothing else can be mended without loss.
pub(crate) fn check(home: &Home, repair: bool) -> Result<Vec<Problem>> {
    if repair {
        home.clean_up()?;
    }
    let mut problems = Vec::new();
    for id in home.list()? {
        let problem = |what: String, advice: &str| Problem {
            path: home.layer_file(&id),
            what,
            layer: Some(id.clone()),
            remedy: Remedy::Manual(advice.to_owned()),
        };
        let ancestors = match branches::read(&home.layer_file(&id)) {
            // Removed meanwhile.
            Ok(None) => continue,
            Ok(Some(ancestors)) => ancestors,
            Err(error) => {
                problems.push(problem(
                    error.to_string(),
                    "write the ids of the layers below into it, the nearest first",
                ));
                continue;
            }
        };
        if !home.diff(&id).is_dir() {
            problems.push(problem("its branch is missing".to_owned(), "nothing of it is left; remove it"));
        }
        if let Some(missing) = ancestors.iter().find(|below| !home.diff(below).is_dir()) {
            problems.push(problem(
                format!("the branch of {missing}, which lies below, is missing"),
                "it cannot be mounted; what it adds is in its own branch",
            ));
        }
    }
    for path in home.strays()? {
        problems.push(Problem {
            path,
            what: "it belongs to no layer".to_owned(),
            layer: None,
            remedy: Remedy::Manual(
                "it is of a layer that was never made, or is half removed; delete it if nothing in it is wanted".to_owned(),
            ),
        });
    }
    let leftovers = home.temp_dirs.leftovers()?.into_iter();
    problems.extend(leftovers.map(|path| Problem::leftover(path, repair)));
    Ok(problems)
}
