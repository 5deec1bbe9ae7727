//! Running cases, and telling which could not run.

use std::sync::Arc;

use libtest_mimic::{Completion, Failed, Trial};

use crate::bench::Bench;
use crate::cases::{self, Case};

/// All cases as trials; with `strict`, a case whose needs could be met here but are not fails.
pub(crate) fn all(bench: &Arc<Bench>, strict: bool) -> Vec<Trial> {
    let trial = |Case { name, run }: Case| {
        let bench = Arc::clone(bench);
        Trial::ignorable_test(name, move || match run(&bench) {
            Ok(()) => Ok(Completion::Completed),
            Err(need) if strict && !need.is_of_kernel() => Err(Failed::from(need)),
            Err(need) => Ok(Completion::ignored_with(need)),
        })
    };
    cases::all().into_iter().map(trial).collect()
}
