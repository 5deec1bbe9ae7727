//! What people are told of runs that have ended.

use std::collections::BTreeMap;

use super::transcript::{Case, Outcome};

/// What came of one run.
#[derive(Debug)]
pub(super) struct Results {
    /// The run's.
    pub(super) name: String,
    pub(super) cases: Vec<Case>,
    /// The last that the guest's kernel and QEMU said, if the guest did not end by itself.
    pub(super) last_words: Option<String>,
}

impl Results {
    /// For a run that could not be made.
    pub(super) fn of_failed_run(name: String, error: &str) -> Self {
        let case = Case::failed(0, "the run", error.to_owned());
        Self { name, cases: vec![case], last_words: None }
    }
}

/// How many cases ended how.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

impl Tally {
    fn of(cases: &[Case]) -> Self {
        let mut tally = Self::default();
        for case in cases {
            match case.outcome {
                Outcome::Passed => tally.passed += 1,
                Outcome::Ignored(_) => tally.ignored += 1,
                Outcome::Failed(_) => tally.failed += 1,
            }
        }
        tally
    }
}

/// Lists the failures of all runs, those of one cause together, and counts.
pub(super) fn summarize(results: &[Results]) -> Tally {
    for run in results {
        for (message, names) in causes(&run.cases) {
            println!("\nFAILED on {}:\n{}{message}", run.name, listed(&names));
        }
    }
    let mut all = Tally::default();
    println!("\npassed failed skipped");
    for run in results {
        let tally = Tally::of(&run.cases);
        println!("{:6} {:6} {:7}  {}", tally.passed, tally.failed, tally.ignored, run.name);
        all.passed += tally.passed;
        all.failed += tally.failed;
        all.ignored += tally.ignored;
    }
    all
}

/// Names on lines of their own; the `JUnit` file has those that are too many here.
fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 20;
    let lines: String = names.iter().take(SHOWN).flat_map(|name| ["    ", name, "\n"]).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => lines,
        more => format!("{lines}    and {more} more\n"),
    }
}

/// The names of failed cases, by why they failed.
fn causes(cases: &[Case]) -> BTreeMap<&str, Vec<&str>> {
    let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for case in cases {
        if let Outcome::Failed(message) = &case.outcome {
            names.entry(message.trim_end()).or_default().push(&case.name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_one_cause_are_listed_together() {
        let cases = [("a", "no result"), ("b", "left: 1\n"), ("c", "no result")];
        let mut cases: Vec<_> = cases.map(|(name, message)| Case::failed(0, name, message.to_owned())).into();
        assert_eq!(causes(&cases), BTreeMap::from([("left: 1", vec!["b"]), ("no result", vec!["a", "c"])]));
        assert_eq!(listed(&["a", "c"]), "    a\n    c\n");
        assert!(listed(&["a"; 23]).ends_with("    a\n    and 3 more\n"));
        cases[1].outcome = Outcome::Passed;
        assert_eq!(Tally::of(&cases), Tally { passed: 1, failed: 2, ignored: 0 });
        let run = Results::of_failed_run("it".to_owned(), "no such kernel");
        assert_eq!(Tally::of(&run.cases), Tally { passed: 0, failed: 1, ignored: 0 });
    }
}
