//! What can be told about the driver and its layers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use graphdriver_archive::whiteout::OverlayXattrs;
use graphdriver_archive::{self as archive, RootDir};
use graphdriver_core::{Capabilities, DiskUsage, Error, LayerId, Result};

use crate::home::Home;
use crate::lowers;
use crate::mount::MountApi;

/// What the driver can do.
pub(crate) fn capabilities(home: &Home) -> Capabilities {
    Capabilities {
        native_diff: home.native_diff,
        native_apply: true,
        staged_apply: true,
        id_shifting: home.shifting.how().is_some(),
        quota: home.quotas.unavailable().is_none(),
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
        ("Supports shifting", home.shifting.describe()),
        ("Supports volatile", dialect.volatile.to_string()),
        ("userxattr", (dialect.xattrs == OverlayXattrs::User).to_string()),
        ("Mount API", mount_api.to_owned()),
        ("Project quota", home.quotas.status()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// The directories of a layer.
pub(crate) fn metadata(home: &Home, id: &LayerId) -> Result<BTreeMap<String, String>> {
    let layer = home.stores.require("describe", id)?;
    let text = |path: &Path| path.display().to_string();
    let own = layer.diffs();
    let (upper, rotated) = own.split_first().ok_or_else(|| Error::layer_unknown("describe", id))?;
    let mut metadata = BTreeMap::from([
        ("WorkDir".to_owned(), text(&layer.work())),
        ("MergedDir".to_owned(), text(&layer.merged())),
        ("UpperDir".to_owned(), text(upper)),
    ]);
    let below = lowers::resolve(&home.stores, &layer)?;
    let lower: Vec<_> =
        rotated.iter().map(PathBuf::as_path).chain(lowers::directories(&below)).map(text).collect();
    if !lower.is_empty() {
        metadata.insert("LowerDir".to_owned(), lower.join(":"));
    }
    Ok(metadata)
}

/// What the file system counts for the layer, or else what its own directories hold.
pub(crate) fn usage(home: &Home, id: &LayerId) -> Result<DiskUsage> {
    let layer = home.stores.require("measure", id)?;
    if let Some(usage) = home.quotas.usage(layer.path())? {
        return Ok(usage);
    }
    let mut usage = DiskUsage::default();
    for directory in layer.diffs() {
        let part = archive::disk_usage(&RootDir::open(directory)?)?;
        usage.bytes += part.bytes;
        usage.inodes += part.inodes;
    }
    Ok(usage)
}
