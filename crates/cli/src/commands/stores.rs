//! `info`, `drivers`, `cleanup`.

use std::collections::BTreeMap;
use std::path::Path;

use graphdriver::{DedupHash, DriverEntry, Feature};
use serde::Serialize;

use super::Session;
use crate::args::{Dedup, Hash};
use crate::failure::Result;
use crate::output;

#[derive(Serialize)]
struct Info<'a> {
    driver: &'a str,
    home: &'a Path,
    run_home: &'a Path,
    image_store: Option<&'a Path>,
    status: Vec<Fact>,
    capabilities: BTreeMap<&'a str, bool>,
    features: Vec<FeatureRow>,
    options: Vec<String>,
    image_stores: Vec<String>,
}

#[derive(Serialize)]
struct Fact {
    name: String,
    value: String,
}

#[derive(Serialize)]
struct FeatureRow {
    name: &'static str,
    on: bool,
    /// Why not.
    reason: Option<String>,
}

impl From<Feature> for FeatureRow {
    fn from(feature: Feature) -> Self {
        let reason = feature.reason().map(str::to_owned);
        Self { name: feature.name(), on: feature.is_on(), reason }
    }
}

pub(super) fn info(session: &Session) -> Result {
    let graph = session.store.open()?;
    let home = session.store.home(&graph)?;
    let info = Info {
        driver: graph.name(),
        home: home.home(),
        run_home: home.run_home(),
        image_store: home.image_store(),
        status: graph.status()?.into_iter().map(|(name, value)| Fact { name, value }).collect(),
        capabilities: graph.capabilities().named().into_iter().collect(),
        features: graph.features().into_iter().map(FeatureRow::from).collect(),
        options: graph.options().iter().map(|(key, value)| format!("{key}={value}")).collect(),
        image_stores: graph.image_stores().iter().map(|store| store.to_string_lossy().into_owned()).collect(),
    };
    if session.json { output::json(&info) } else { output::table(&rows(&info)) }
}

fn rows(info: &Info<'_>) -> Vec<(String, String)> {
    let row = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut rows = vec![
        row("Driver", info.driver),
        row("Home", &info.home.to_string_lossy()),
        row("Run home", &info.run_home.to_string_lossy()),
    ];
    rows.extend(info.image_store.map(|store| row("Image store", &store.to_string_lossy())));
    rows.extend(info.status.iter().map(|fact| row(&fact.name, &fact.value)));
    let can: Vec<_> = info.capabilities.iter().filter(|(_, can)| **can).map(|(name, _)| *name).collect();
    let cannot: Vec<_> = info.capabilities.iter().filter(|(_, can)| !**can).map(|(name, _)| *name).collect();
    rows.push(row("Can", &can.join(" ")));
    rows.push(row("Cannot", &cannot.join(" ")));
    let on: Vec<_> = info.features.iter().filter(|feature| feature.on).map(|feature| feature.name).collect();
    rows.push(row("Kernel has", &on.join(" ")));
    rows.extend(info.features.iter().filter_map(|feature| {
        let reason = feature.reason.as_deref()?;
        Some(row(&format!("Without {}", feature.name), reason))
    }));
    rows.push(row("Options", &info.options.join(" ")));
    rows.push(row("Additional image stores", &info.image_stores.join(" ")));
    rows.retain(|(_, value)| !value.is_empty());
    rows
}

#[derive(Serialize)]
struct DriverRow {
    name: &'static str,
    usable: bool,
    /// Why not.
    reason: Option<String>,
    automatic: bool,
}

pub(super) fn drivers(session: &Session) -> Result {
    let rows: Vec<_> =
        session.store.registry().entries().iter().map(|entry| driver_row(session, entry)).collect();
    if session.json {
        return output::json(&rows);
    }
    let text = |row: &DriverRow| match &row.reason {
        None if row.automatic => "usable".to_owned(),
        None => "usable, when asked for".to_owned(),
        Some(reason) => format!("not usable: {reason}"),
    };
    output::table(&rows.iter().map(|row| (row.name, text(row))).collect::<Vec<_>>())
}

fn driver_row(session: &Session, entry: &DriverEntry) -> DriverRow {
    let probed = session.store.registry().probe(entry.name(), session.store.options());
    let reason = probed.err().map(|error| error.report().to_string());
    DriverRow { name: entry.name(), usable: reason.is_none(), reason, automatic: entry.automatic }
}

#[derive(Serialize)]
struct Deduplicated {
    bytes: u64,
}

pub(super) fn dedup(session: &Session, args: &Dedup) -> Result {
    let graph = session.store.open()?;
    let layers = if args.ids.is_empty() { graph.layers()? } else { args.ids.clone() };
    let hash = match args.hash {
        Hash::Crc => DedupHash::Crc,
        Hash::Size => DedupHash::Size,
        Hash::Sha256 => DedupHash::Sha256,
    };
    let bytes = graph.dedup(&layers, hash)?;
    if session.json { output::json(&Deduplicated { bytes }) } else { output::line(bytes.to_string()) }
}

pub(super) fn cleanup(session: &Session) -> Result {
    Ok(session.store.open()?.cleanup()?)
}
