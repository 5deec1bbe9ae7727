//! A progress bar for each layer.

use std::io::{self, Read};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

const RUNNING: &str = "{prefix} {bar:30.cyan/dim} {bytes:>11} / {total_bytes:<11} {msg}";

/// The bars of one import, below one another on standard error.
#[derive(Debug)]
pub(crate) struct Progress {
    bars: MultiProgress,
}

impl Progress {
    /// Bars on a terminal; none in a pipe, or when they are not wanted.
    pub(crate) fn new(quiet: bool) -> Self {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        Self { bars: MultiProgress::with_draw_target(target) }
    }

    /// The bar of the layer called `name`, with a blob of `bytes`.
    pub(super) fn layer(&self, name: String, bytes: u64) -> LayerProgress {
        // The template is a constant; should it not parse, the default one shows the same without colour.
        let style = ProgressStyle::with_template(RUNNING).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(bytes).with_prefix(name).with_style(style.progress_chars("━━─"));
        let bar = self.bars.add(bar);
        bar.tick();
        LayerProgress(bar)
    }
}

/// One layer's bar.
#[derive(Clone, Debug)]
pub(super) struct LayerProgress(ProgressBar);

impl LayerProgress {
    /// Counts what is read of `source`.
    pub(super) fn counting<R: Read>(&self, source: R) -> Counting<R> {
        Counting { source, progress: self.clone() }
    }

    /// Ends at the full length, with a word about it.
    pub(super) fn done(&self, message: &'static str) {
        self.0.finish_with_message(message);
    }

    /// Ends where it stands.
    pub(super) fn failed(&self) {
        self.0.abandon_with_message("✗ failed");
    }
}

/// A reader whose bytes a bar counts.
pub(super) struct Counting<R> {
    source: R,
    progress: LayerProgress,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.progress.0.inc(read as u64);
        Ok(read)
    }
}
