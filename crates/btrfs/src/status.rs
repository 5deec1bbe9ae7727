//! What can be told about the driver and its layers.

use std::collections::BTreeMap;

use graphdriver_core::{Capabilities, Feature, FsMagic, LayerId, Result};

use crate::home::Home;
use crate::trees::no_native_diff;

/// What the driver can do.
pub(crate) fn capabilities(home: &Home) -> Capabilities {
    Capabilities {
        native_diff: no_native_diff(home).is_none(),
        native_apply: true,
        staged_apply: true,
        quota: home.quotas.unavailable().is_none(),
        reflink: true,
        user_namespace: true,
        ..Capabilities::default()
    }
}

pub(crate) fn status(home: &Home) -> Vec<(String, String)> {
    let facts = [("Backing Filesystem", FsMagic::BTRFS.to_string()), ("Quota", home.quotas.status())];
    facts.map(|(name, value)| (name.to_owned(), value)).into()
}

pub(crate) fn features(home: &Home) -> Vec<Feature> {
    let quota = match home.quotas.unavailable() {
        None => Feature::on("quota"),
        Some(reason) => Feature::off("quota", reason.to_string()),
    };
    let native_diff = match no_native_diff(home) {
        None => Feature::on("native_diff"),
        Some(reason) => Feature::off("native_diff", reason),
    };
    vec![Feature::on("snapshots"), native_diff, quota]
}

/// The options in force: given, or by default.
pub(crate) fn options(home: &Home) -> Vec<(&'static str, String)> {
    let options = &home.options;
    let given = [
        ("ignore_chown_errors", Some(options.ignore_chown_errors.to_string())),
        ("min_space", options.min_space.map(|bytes| bytes.to_string())),
        ("size", options.size.map(|bytes| bytes.to_string())),
        ("sync", Some(options.sync.to_string())),
    ];
    given.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

/// Where the layer is.
pub(crate) fn metadata(home: &Home, id: &LayerId) -> Result<BTreeMap<String, String>> {
    home.layers.require("describe", id)?;
    Ok(BTreeMap::from([("Dir".to_owned(), home.layers.layer(id).display().to_string())]))
}
