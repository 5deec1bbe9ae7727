//! Which guest runs when: the first of the list first, as many at a time as the machine can take.

use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use super::guest::MEMORY_MIB;
use super::matrix::Run;
use super::report::Results;
use crate::Result;

/// Makes a run in a guest, and writes down what is heard of it.
type Make<'a> = dyn Fn(&Run, &mut dyn Write) -> Result<Results> + Sync + 'a;

/// Makes all of `runs` and returns their results in the same order. A run that cannot be made has failed; the others are made nevertheless.
pub(super) fn run_all(runs: &[Run], guests: usize, make: &Make<'_>) -> Vec<Results> {
    let guests = guests.min(runs.len());
    let next = AtomicUsize::new(0);
    let finished = Mutex::new(Vec::new());
    let work = || {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(run) = runs.get(place) else { return };
            let results = run_one(run, make, guests == 1)
                .unwrap_or_else(|error| Results::of_failed_run(run.name(), &error.to_string()));
            if let Ok(mut finished) = finished.lock() {
                finished.push((place, results));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..guests {
            scope.spawn(work);
        }
    });
    let mut finished = finished.into_inner().unwrap_or_default();
    finished.sort_by_key(|(place, _)| *place);
    finished.into_iter().map(|(_, results)| results).collect()
}

/// What a guest says is shown at once if it is alone, and otherwise when it has ended, so that lines of several do not mix.
fn run_one(run: &Run, make: &Make<'_>, is_alone: bool) -> Result<Results> {
    let (mut screen, mut kept) = (io::stdout(), Vec::new());
    let out: &mut dyn Write = if is_alone {
        &mut screen
    } else {
        println!("{} begins", run.name());
        &mut kept
    };
    let started = Instant::now();
    writeln!(out, "\n\x1b[1m==> {}\x1b[0m", run.name())?;
    let results = make(run, out);
    writeln!(out, "{}: {:.0} s", run.name(), started.elapsed().as_secs_f64())?;
    print!("{}", String::from_utf8_lossy(&kept));
    results
}

/// How many guests run well beside each other here: one for each processor, as long as there is memory for it.
pub(super) fn guests_at_a_time() -> usize {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    available_kib(&meminfo).map_or(processors, |kib| processors.min(kib / 1024 / MEMORY_MIB)).max(1)
}

fn available_kib(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::matrix;

    #[test]
    fn every_run_is_made_and_has_its_place() {
        let runs = matrix::all(None);
        for guests in [2, 3, 100] {
            let made = AtomicUsize::new(0);
            let results = run_all(&runs, guests, &|run, out| {
                writeln!(out, "Linux")?;
                match made.fetch_add(1, Ordering::Relaxed) {
                    2 => Err("no such kernel".into()),
                    _ => Ok(Results { name: run.name(), cases: Vec::new(), last_words: None }),
                }
            });
            let names = |run: &Results| run.name.clone();
            assert_eq!(
                results.iter().map(names).collect::<Vec<_>>(),
                runs.iter().map(Run::name).collect::<Vec<_>>()
            );
            assert_eq!(
                results.iter().flat_map(|run| &run.cases).count(),
                1,
                "one failed, and all others ran"
            );
        }
    }

    #[test]
    fn memory_is_known() {
        let meminfo = "MemTotal:       24689160 kB\nMemAvailable:    6291456 kB\n";
        assert_eq!(available_kib(meminfo), Some(6_291_456));
        assert_eq!(available_kib("MemTotal: 1 kB\n"), None);
        assert!(guests_at_a_time() >= 1);
    }
}
