//! Results as a `JUnit` file, which services for continuous integration read.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::report::Results;
use super::transcript::{Case, Outcome};
use crate::Result;

pub(super) fn write(results: &[Results], file: &Path) -> Result<()> {
    let mut report = Report::new("vm-test");
    report.set_time(results.iter().flat_map(|run| &run.cases).map(|case| case.took).sum::<Duration>());
    for run in results {
        let mut suite = TestSuite::new(run.name.as_str());
        suite.set_time(run.cases.iter().map(|case| case.took).sum::<Duration>());
        suite.add_test_cases(run.cases.iter().map(|case| test_case(&run.name, case)));
        if let Some(last_words) = &run.last_words {
            suite.set_system_err(last_words.as_str());
        }
        report.add_test_suite(suite);
    }
    Ok(report.serialize(File::create(file)?)?)
}

fn test_case(guest: &str, case: &Case) -> TestCase {
    let status = match &case.outcome {
        Outcome::Passed => TestCaseStatus::success(),
        Outcome::Ignored(reason) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(reason.as_str());
            status
        }
        Outcome::Failed(message) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(message.lines().next().unwrap_or_default());
            status.set_description(message.as_str());
            status
        }
    };
    let mut junit = TestCase::new(case.name.as_str(), status);
    junit.set_classname(guest).set_time(case.took);
    if !case.output.is_empty() {
        junit.set_system_out(case.output.as_str());
    }
    junit
}
