//! `check`: what is wrong with a store.

use std::path::PathBuf;

use graphdriver::{Problem, Remedy};
use serde::Serialize;

use super::Session;
use crate::args::Check;
use crate::failure::Result;
use crate::output;

#[derive(Serialize)]
struct Row<'a> {
    layer: Option<&'a str>,
    path: &'a PathBuf,
    problem: &'a str,
    /// `repaired`, `repairable` or `manual`.
    state: &'static str,
    /// What a repair does, or what somebody can do.
    remedy: Option<&'a str>,
}

/// Prints what the driver finds; 1 when something remains wrong.
pub(super) fn check(session: &Session, args: &Check) -> Result<u8> {
    let problems = session.store.open()?.check(args.repair)?;
    if session.json {
        output::json(&problems.iter().map(row).collect::<Vec<_>>())?;
    } else {
        output::print(|out| problems.iter().try_for_each(|problem| writeln!(out, "{problem}")))?;
    }
    Ok(u8::from(problems.iter().any(Problem::remains)))
}

fn row(problem: &Problem) -> Row<'_> {
    let (state, remedy) = match &problem.remedy {
        Remedy::Repaired => ("repaired", None),
        Remedy::Repairable(how) => ("repairable", Some(how.as_str())),
        Remedy::Manual(advice) => ("manual", Some(advice.as_str())),
    };
    let layer = problem.layer.as_ref().map(graphdriver::LayerId::as_str);
    Row { layer, path: &problem.path, problem: &problem.what, state, remedy }
}
