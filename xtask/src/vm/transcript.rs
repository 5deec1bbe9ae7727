//! What test programs print, understood while it comes: `test <name> ... ok`.
//!
//! The programs are those of libtest and of libtest-mimic, told to run one test after the other. Such a program names a test when it starts it and ends the line when it knows
//! the result; what the test itself prints stands between.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    /// With the reason.
    Ignored(String),
    /// With what is known of it.
    Failed(String),
}

#[derive(Clone, Debug)]
pub(super) struct Case {
    /// Which of the programs had it, counted from 0.
    pub(super) program: usize,
    pub(super) name: String,
    pub(super) outcome: Outcome,
    pub(super) took: Duration,
    /// What it printed.
    pub(super) output: String,
}

impl Case {
    /// One of which nothing was heard but that it failed.
    pub(super) fn failed(program: usize, name: &str, message: String) -> Self {
        let outcome = Outcome::Failed(message);
        Self { program, name: name.to_owned(), outcome, took: Duration::ZERO, output: String::new() }
    }

    pub(super) fn is_failure(&self) -> bool {
        matches!(self.outcome, Outcome::Failed(_))
    }
}

/// What was heard so far.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    line: Vec<u8>,
    running: Option<Running>,
    /// The failed case whose message is being printed.
    explained: Option<String>,
    /// Of each program's failed cases.
    messages: BTreeMap<(usize, String), String>,
    cases: Vec<Case>,
    exits: Vec<i32>,
    is_done: bool,
}

#[derive(Debug)]
struct Running {
    name: String,
    since: Instant,
    output: String,
}

impl Transcript {
    /// Takes up what was written next.
    pub(super) fn take(&mut self, bytes: &[u8], now: Instant) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend(piece);
            if self.line.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.complete(String::from_utf8_lossy(&line).trim_end(), now);
            } else {
                self.begin(now);
            }
        }
    }

    /// The case that runs, and since when.
    pub(super) fn running(&self) -> Option<(&str, Instant)> {
        self.running.as_ref().map(|running| (running.name.as_str(), running.since))
    }

    /// How each program ended, in their order.
    pub(super) fn exits(&self) -> &[i32] {
        &self.exits
    }

    /// Whether everything that was to be done is done.
    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// The cases that ended; the one that runs as failed, for the reason given.
    pub(super) fn into_cases(mut self, reason: &str, now: Instant) -> Vec<Case> {
        self.end(Outcome::Failed(reason.to_owned()), now);
        for case in &mut self.cases {
            if let (Outcome::Failed(known), Some(message)) =
                (&mut case.outcome, self.messages.get(&(case.program, case.name.clone())))
            {
                known.clone_from(message);
            }
        }
        self.cases
    }

    /// Looks whether the line so far is the beginning of a case.
    fn begin(&mut self, now: Instant) {
        if self.running.is_none()
            && let Ok(line) = std::str::from_utf8(&self.line)
            && let Some((name, _)) = case_of(line)
        {
            self.running = Some(Running { name: name.to_owned(), since: now, output: String::new() });
        }
    }

    fn complete(&mut self, line: &str, now: Instant) {
        let rest = match case_of(line) {
            Some((name, rest)) => {
                let is_it = self.running.as_ref().is_some_and(|running| running.name == name);
                if !is_it {
                    self.end(Outcome::Failed("it never ended".to_owned()), now);
                    self.running = Some(Running { name: name.to_owned(), since: now, output: String::new() });
                }
                rest
            }
            None => line,
        };
        if self.running.is_some() {
            match outcome_of(rest) {
                Some(outcome) => self.end(outcome, now),
                None => self.note(rest),
            }
        } else {
            self.between_cases(line);
        }
    }

    fn end(&mut self, outcome: Outcome, now: Instant) {
        if let Some(Running { name, since, output }) = self.running.take() {
            self.cases.push(Case { program: self.exits.len(), name, outcome, took: now - since, output });
        }
    }

    fn note(&mut self, line: &str) {
        if let Some(running) = &mut self.running {
            running.output.push_str(line);
            running.output.push('\n');
        }
    }

    /// Messages of failed cases, and what the guest itself says.
    fn between_cases(&mut self, line: &str) {
        if let Some(said) = line.strip_prefix("vm-test: ") {
            self.explained = None;
            match said.strip_prefix("exit ") {
                Some(status) => self.exits.push(status.parse().unwrap_or(-1)),
                None => self.is_done |= said == "done",
            }
        } else if let Some(title) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" ----")) {
            self.explained = Some(title.strip_suffix(" stdout").unwrap_or(title).to_owned());
        } else if line == "failures:" {
            self.explained = None;
        } else if let Some(name) = &self.explained {
            let message = self.messages.entry((self.exits.len(), name.clone())).or_default();
            message.push_str(line);
            message.push('\n');
        }
    }
}

/// The name and the rest of a line `test <name> ... <rest>`.
fn case_of(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.strip_prefix("test ")?.split_once(" ...")?;
    // What libtest adds is not part of the name.
    let name = name.trim_end();
    Some((name.strip_suffix(" - should panic").unwrap_or(name), rest.trim_start()))
}

fn outcome_of(text: &str) -> Option<Outcome> {
    match text {
        "ok" => Some(Outcome::Passed),
        "FAILED" => Some(Outcome::Failed("no message".to_owned())),
        _ => {
            let reason = text.strip_prefix("ignored")?;
            // libtest: `ignored, reason`; libtest-mimic: `ignored (reason)`.
            let in_brackets = reason.strip_prefix(" (").and_then(|rest| rest.strip_suffix(')'));
            let reason =
                in_brackets.or_else(|| reason.strip_prefix(", ")).or(reason.is_empty().then_some(""))?;
            Some(Outcome::Ignored(reason.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(text: &str) -> Transcript {
        let mut transcript = Transcript::default();
        // In small pieces, as a port delivers it.
        for piece in text.as_bytes().chunks(3) {
            transcript.take(piece, Instant::now());
        }
        transcript
    }

    fn outcomes(transcript: Transcript) -> Vec<(String, Outcome)> {
        let cases = transcript.into_cases("it was cut off", Instant::now());
        cases.into_iter().map(|case| (case.name, case.outcome)).collect()
    }

    #[test]
    fn every_way_to_end_is_understood() {
        let transcript = hear(
            "\nrunning 6 tests\n\
            test a/b/passes      ... ok\n\
            test a/b/prints      ... thread 'main' panicked\nat the disco\nok\n\
            test a/b/lacks       ... ignored (needs another kernel: mine)\n\
            test tests::ordinary ... ignored, needs root\n\
            test tests::panics - should panic ... ok\n\
            test a/b/fails       ... FAILED\n\
            \nfailures:\n\n---- a/b/fails ----\nleft: 1\nright: 2\n\n\nfailures:\n    a/b/fails\n\n\
            test result: FAILED. 2 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out\n\n\
            vm-test: exit 101\nvm-test: done\n",
        );
        assert_eq!(transcript.exits(), [101]);
        assert!(transcript.is_done());
        let name = str::to_owned;
        let expected = [
            (name("a/b/passes"), Outcome::Passed),
            (name("a/b/prints"), Outcome::Passed),
            (name("a/b/lacks"), Outcome::Ignored(name("needs another kernel: mine"))),
            (name("tests::ordinary"), Outcome::Ignored(name("needs root"))),
            (name("tests::panics"), Outcome::Passed),
            (name("a/b/fails"), Outcome::Failed(name("left: 1\nright: 2\n\n\n"))),
        ];
        assert_eq!(outcomes(transcript), expected);
    }

    #[test]
    fn a_case_that_does_not_end_is_known() {
        let transcript = hear("test a ... ok\ntest b ... ");
        assert_eq!(transcript.running().unwrap().0, "b");
        assert!(!transcript.is_done());
        let expected = ("b".to_owned(), Outcome::Failed("it was cut off".to_owned()));
        assert_eq!(outcomes(transcript)[1], expected);
    }

    #[test]
    fn what_a_case_prints_is_no_result() {
        for noise in ["looks ok", "okay", "ignoredly", "test result: ok"] {
            let transcript = hear(&format!("test a ... {noise}\n"));
            assert_eq!(transcript.running().map(|(name, _)| name), Some("a"), "{noise}");
        }
    }

    #[test]
    fn a_name_without_an_end_before_the_next_has_failed() {
        let expected = [
            ("a".to_owned(), Outcome::Failed("it never ended".to_owned())),
            ("b".to_owned(), Outcome::Passed),
        ];
        assert_eq!(outcomes(hear("test a ... \ntest b ... ok\n")), expected);
    }
}
