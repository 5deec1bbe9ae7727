//! What can be told about the driver and its layers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use graphdriver_archive::{self as archive, RootDir};
use graphdriver_core::{Capabilities, DiskUsage, Feature, LayerId, Result};

use super::home::Home;
use super::layer::Form;

/// What the driver can do.
pub(super) fn capabilities(home: &Home) -> Capabilities {
    Capabilities {
        native_diff: true,
        staged_apply: true,
        volatile: home.support.dialect.volatile,
        user_namespace: home.support.user_namespace,
        ..Capabilities::default()
    }
}

/// The keys of Docker's driver.
pub(super) fn status(home: &Home) -> Vec<(String, String)> {
    [
        ("Backing Filesystem", home.support.backing.to_string()),
        // Without it the home does not open.
        ("Supports d_type", true.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// What every home that opens has.
pub(super) fn features() -> Vec<Feature> {
    ["overlay", "d_type"].map(Feature::on).into()
}

/// The keys of Docker's driver.
pub(super) fn metadata(home: &Home, id: &LayerId) -> Result<BTreeMap<String, String>> {
    let (layer, form) = home.require("describe", id)?;
    let text = |path: &Path| path.display().to_string();
    let paths: Vec<(&str, PathBuf)> = match form {
        Form::Tree => vec![("RootDir", layer.root())],
        Form::Upper => vec![
            ("LowerDir", home.lower(&layer)?),
            ("UpperDir", layer.upper()),
            ("WorkDir", layer.work()),
            ("MergedDir", layer.merged()),
        ],
    };
    Ok(paths.into_iter().map(|(key, path)| (key.to_owned(), text(&path))).collect())
}

/// What the layer's own directory holds; files that it shares with its parent count for both.
pub(super) fn usage(home: &Home, id: &LayerId) -> Result<DiskUsage> {
    let (layer, form) = home.require("measure", id)?;
    Ok(archive::disk_usage(&RootDir::open(layer.contents(form))?)?)
}
