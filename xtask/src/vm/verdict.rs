//! What a guest's results are worth: every case has to have one, and a good one.

use super::transcript::{Case, Outcome};

/// Turns into failures what would look like success: a case without a result, one that was ignored for a reason that excuses nobody here, a program that failed without
/// saying of what.
pub(super) fn judge(
    mut cases: Vec<Case>,
    expected: &[Vec<String>],
    exits: &[i32],
    excuses: impl Fn(&str) -> bool,
    ending: &str,
) -> Vec<Case> {
    for case in &mut cases {
        if let Outcome::Ignored(reason) = &case.outcome
            && !excuses(reason)
        {
            let message = format!("ignored, though the guest is there for it: {reason}");
            case.outcome = Outcome::Failed(message);
        }
    }
    let mut more = Vec::new();
    for (program, names) in expected.iter().enumerate() {
        let fail = |name: &str, message: String| Case::failed(program, name, message);
        let has = |name: &String| cases.iter().any(|case| case.program == program && case.name == *name);
        let missing = names.iter().filter(|name| !has(name));
        more.extend(missing.map(|name| fail(name, format!("no result: {ending}"))));
        let failed = more.iter().chain(&cases).any(|case| case.program == program && case.is_failure());
        if !failed {
            match exits.get(program) {
                Some(0) => {}
                Some(status) => {
                    more.push(fail("the program", format!("exit status {status}, though no case failed")));
                }
                None => more.push(fail("the program", format!("did not end: {ending}"))),
            }
        }
    }
    cases.extend(more);
    cases
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn case(name: &str, outcome: Outcome) -> Case {
        Case { program: 0, name: name.to_owned(), outcome, took: Duration::ZERO, output: String::new() }
    }

    fn failures(cases: Vec<Case>, exits: &[i32]) -> Vec<String> {
        let excuses = |reason: &str| reason.starts_with("needs another kernel: old");
        let expected = vec![vec!["a".to_owned(), "b".to_owned()]];
        let judged = judge(cases, &expected, exits, excuses, "it crashed");
        let failed = judged.into_iter().filter(Case::is_failure).map(|case| match case.outcome {
            Outcome::Failed(message) => format!("{}: {message}", case.name),
            _ => String::new(),
        });
        failed.collect()
    }

    #[test]
    fn every_case_counts() {
        let passed = |name| case(name, Outcome::Passed);
        let ignored = |reason: &str| case("b", Outcome::Ignored(reason.to_owned()));
        let none: [&str; 0] = [];
        assert_eq!(failures(vec![passed("a"), passed("b")], &[0]), none);
        assert_eq!(failures(vec![passed("a"), ignored("needs another kernel: old one")], &[0]), none);
        assert_eq!(
            failures(vec![passed("a"), ignored("needs root")], &[0]),
            ["b: ignored, though the guest is there for it: needs root"]
        );
        assert_eq!(failures(vec![passed("a")], &[0]), ["b: no result: it crashed"]);
        assert_eq!(failures(vec![passed("a"), passed("b")], &[]), ["the program: did not end: it crashed"]);
        assert_eq!(
            failures(vec![passed("a"), passed("b")], &[101]),
            ["the program: exit status 101, though no case failed"]
        );
        assert_eq!(failures(vec![passed("a"), case("b", Outcome::Failed("x".to_owned()))], &[101]), ["b: x"]);
    }
}
