//! `migrate`.

use std::path::{Path, PathBuf};

use graphdriver::{DriverHome, Error, ErrorKind, Graph};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::Session;
use crate::args::Migrate;
use crate::failure::Result;
use crate::import::Interrupt;
use crate::migrate::{Migration, Moved, Outcome, plan, remove_empty_home, row};
use crate::output;
use crate::signals::{STOP, Signals};

#[derive(Serialize)]
struct Report<'a> {
    from: &'a str,
    to: &'a str,
    layers: &'a [Moved],
    source_removed: bool,
}

/// Moves all layers and says what became of them; 1 when one could not be moved.
pub(super) fn migrate(session: &Session, args: &Migrate) -> Result<u8> {
    let interrupt = Interrupt::new(Signals::block(STOP)?);
    let store = &session.store;
    if args.from == args.to {
        return Err(Error::new(ErrorKind::InvalidArgument, "migrate")
            .detail(format!("both drivers are {}", args.to))
            .into());
    }
    // A home that is not there is not made: a mistyped name would be taken for an empty one.
    let from = store.open_existing(&args.from)?;
    if args.dry_run && !store.has_home(&args.to)? {
        store.registry().probe(&args.to, store.options())?;
        return finish(session, args, &plan_for_nothing(&from)?, false);
    }
    let to = store.registry().open(&args.to, store.options())?;
    let migration = Migration { from: &from, to: &to, interrupt: &interrupt };
    if args.dry_run {
        return finish(session, args, &migration.preview()?, false);
    }
    let bar = bar(session, plan(&from)?.len());
    let layers = migration.run(|id, outcome| match outcome {
        None => bar.set_message(id.to_string()),
        Some(Outcome::Failed { error }) => {
            bar.suspend(|| eprintln!("graphdriver: layer {id} could not be moved: {error}"));
            bar.inc(1);
        }
        Some(_) => bar.inc(1),
    });
    bar.finish_and_clear();
    let layers = layers?;
    let complete = layers.iter().all(|layer| layer.outcome.is_there());
    if !(complete && args.remove_source) {
        return finish(session, args, &layers, false);
    }
    let home = home_of(session, &from, &args.from)?;
    migration.remove_source()?;
    drop(from);
    remove_home(&home);
    finish(session, args, &layers, true)
}

/// Every layer of a source whose destination has none.
fn plan_for_nothing(from: &Graph) -> Result<Vec<Moved>> {
    Ok(plan(from)?.iter().map(|(id, parent)| row(id, parent.as_ref(), Outcome::Planned)).collect())
}

/// The directory of the root in which the driver called `name` has its layers: mostly that of its name.
fn home_of(session: &Session, graph: &Graph, name: &str) -> Result<PathBuf> {
    let place = DriverHome::new(name, session.store.options())?;
    let layers = graph.layers()?;
    let Some(layer) = layers.first() else { return Ok(place.home().to_owned()) };
    let root = place.root();
    let directory = |paths: &String| {
        let path = Path::new(paths.split(':').next()?);
        path.strip_prefix(root).ok()?.components().next().map(|first| root.join(first))
    };
    let found = graph.metadata(layer)?.values().find_map(directory);
    Ok(found.unwrap_or_else(|| place.home().to_owned()))
}

fn remove_home(path: &Path) {
    match remove_empty_home(path) {
        Ok(true) => {}
        Ok(false) => tracing::warn!(?path, "the source's directory stays: it holds what is no layer"),
        Err(error) => tracing::warn!(?path, %error, "the source's directory stays"),
    }
}

fn finish(session: &Session, args: &Migrate, layers: &[Moved], source_removed: bool) -> Result<u8> {
    let bad = |layer: &Moved| matches!(layer.outcome, Outcome::Failed { .. } | Outcome::Skipped);
    let status = u8::from(layers.iter().any(bad));
    if session.json {
        output::json(&Report { from: &args.from, to: &args.to, layers, source_removed })?;
        return Ok(status);
    }
    if args.dry_run {
        output::print(|out| {
            layers.iter().try_for_each(|layer| writeln!(out, "{:8}{}", word(&layer.outcome), layer.id))
        })?;
    }
    let count = |wanted: fn(&Outcome) -> bool| layers.iter().filter(|layer| wanted(&layer.outcome)).count();
    let parts = [
        (count(|it| matches!(it, Outcome::Planned)), "to move"),
        (count(|it| matches!(it, Outcome::Moved { .. })), "moved"),
        (count(|it| matches!(it, Outcome::Present { .. })), "there already"),
        (count(|it| matches!(it, Outcome::Failed { .. })), "failed"),
        (count(|it| matches!(it, Outcome::Skipped)), "on one that failed"),
    ];
    let mut text: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if source_removed {
        text.push("source removed".to_owned());
    }
    let text = if text.is_empty() { "nothing to move".to_owned() } else { text.join(", ") };
    output::line(format!("{} layers of {} to {}: {text}", layers.len(), args.from, args.to))?;
    Ok(status)
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Planned => "move",
        Outcome::Moved { .. } => "moved",
        Outcome::Present { .. } => "there",
        Outcome::Failed { .. } => "differs",
        Outcome::Skipped => "skipped",
    }
}

fn bar(session: &Session, layers: usize) -> ProgressBar {
    let target = if session.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    // The template is a constant; should it not parse, the default one shows the same without colour.
    let style = ProgressStyle::with_template("{bar:30.cyan/dim} {pos} / {len} layers {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(layers as u64), target).with_style(style.progress_chars("━━─"))
}
