//! Times of one thing done many times.

use std::fmt;
use std::time::{Duration, Instant};

use crate::Result;

/// At least one time, sorted.
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    /// Times `work`, once unmeasured and then `count` times.
    pub(crate) fn take(count: usize, mut work: impl FnMut() -> Result<()>) -> Result<Self> {
        work()?;
        let times = (0..count.max(1)).map(|_| {
            let start = Instant::now();
            work()?;
            Ok(start.elapsed())
        });
        Ok(Self::of(times.collect::<Result<_>>()?))
    }

    /// Times two candidates in turns, so that what else the machine does falls on both alike; each once unmeasured and then `count` times.
    pub(crate) fn alternate(
        count: usize,
        mut one: impl FnMut() -> Result<()>,
        mut other: impl FnMut() -> Result<()>,
    ) -> Result<(Self, Self)> {
        one()?;
        other()?;
        let (mut ones, mut others) = (Vec::new(), Vec::new());
        for _ in 0..count.max(1) {
            let start = Instant::now();
            one()?;
            ones.push(start.elapsed());
            let start = Instant::now();
            other()?;
            others.push(start.elapsed());
        }
        Ok((Self::of(ones), Self::of(others)))
    }

    /// Of times that were taken elsewhere.
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    fn percentile(&self, percent: usize) -> Duration {
        self.0.get(self.0.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default()
    }

    /// The median divided by that of `other`.
    pub(crate) fn ratio(&self, other: &Self) -> f64 {
        self.percentile(50).as_secs_f64() / other.percentile(50).as_secs_f64()
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, median, high] = [10, 50, 90].map(|percent| text(self.percentile(percent)));
        write!(f, "{median} ({low} to {high})")
    }
}

/// Three digits that matter.
fn text(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    match micros {
        0.0..1e3 => format!("{micros:.0} µs"),
        1e3..1e5 => format!("{:.1} ms", micros / 1e3),
        _ => format!("{:.0} ms", micros / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_spread() {
        let samples = Samples::of((1..=101).rev().map(Duration::from_micros).collect());
        assert_eq!(samples.to_string(), "51 µs (11 µs to 91 µs)");
        let twice = Samples::of((1..=101).map(|micros| Duration::from_micros(2 * micros)).collect());
        assert!((twice.ratio(&samples) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn units() {
        for (micros, expected) in
            [(999, "999 µs"), (1500, "1.5 ms"), (99_940, "99.9 ms"), (250_000, "250 ms")]
        {
            assert_eq!(text(Duration::from_micros(micros)), expected);
        }
    }
}
