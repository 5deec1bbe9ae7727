//! What can be told about the driver and its layers.

use std::collections::BTreeMap;
use std::path::Path;

use graphdriver_archive::whiteout::OverlayXattrs;
use graphdriver_archive::{self as archive, RootDir};
use graphdriver_core::{Capabilities, DiskUsage, LayerId, Result};

use crate::home::Home;
use crate::layers;
use crate::lowers;
use crate::mount::MountApi;

/// What the driver can do.
pub(crate) fn capabilities(home: &Home) -> Capabilities {
    Capabilities {
        native_diff: home.native_diff,
        native_apply: true,
        staged_apply: true,
        volatile: home.support.dialect.volatile,
        user_namespace: home.support.user_namespace,
        ..Capabilities::default()
    }
}

/// The keys of containers/storage in its order, then Docker's, then ours.
pub(crate) fn status(home: &Home) -> Vec<(String, String)> {
    let dialect = home.support.dialect;
    let mount_api = match dialect.api {
        MountApi::FsContext => "fsconfig",
        MountApi::Mount => "mount",
    };
    [
        ("Backing Filesystem", home.support.backing.to_string()),
        // Without it the home does not open.
        ("Supports d_type", true.to_string()),
        ("Native Overlay Diff", home.native_diff.to_string()),
        ("Using metacopy", false.to_string()),
        ("Supports shifting", false.to_string()),
        ("Supports volatile", dialect.volatile.to_string()),
        ("userxattr", (dialect.xattrs == OverlayXattrs::User).to_string()),
        ("Mount API", mount_api.to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// The directories of a layer.
pub(crate) fn metadata(home: &Home, id: &LayerId) -> Result<BTreeMap<String, String>> {
    let layout = &home.layout;
    layers::require(layout, "describe", id)?;
    let text = |path: &Path| path.display().to_string();
    let mut metadata = BTreeMap::from([
        ("WorkDir".to_owned(), text(&layout.work(id))),
        ("MergedDir".to_owned(), text(&layout.merged(id))),
        ("UpperDir".to_owned(), text(&layout.diff(id))),
    ]);
    let below = lowers::resolve(layout, id)?;
    if !below.is_empty() {
        let directories: Vec<_> = below.iter().map(|lower| text(&lower.directory)).collect();
        metadata.insert("LowerDir".to_owned(), directories.join(":"));
    }
    Ok(metadata)
}

/// What the layer's own directory holds.
pub(crate) fn usage(home: &Home, id: &LayerId) -> Result<DiskUsage> {
    layers::require(&home.layout, "measure", id)?;
    Ok(archive::disk_usage(&RootDir::open(home.layout.diff(id))?)?)
}
