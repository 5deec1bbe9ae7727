//! What can be told about the driver and its layers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use graphdriver_archive::{self as archive, RootDir};
use graphdriver_core::{Capabilities, DiskUsage, Feature, LayerId, Result};

use crate::home::Home;
use crate::kernel;
use crate::mount::has_dirperm1;

/// What the driver can do.
pub(crate) fn capabilities() -> Capabilities {
    Capabilities { native_diff: true, native_apply: true, staged_apply: true, ..Capabilities::default() }
}

/// The keys of the Go drivers.
pub(crate) fn status(home: &Home) -> Result<Vec<(String, String)>> {
    let dirperm1 = kernel::require().is_ok() && has_dirperm1(home);
    let facts = [
        ("Root Dir", home.path().display().to_string()),
        ("Backing Filesystem", home.backing.to_string()),
        ("Dirs", home.list()?.len().to_string()),
        ("Dirperm1 Supported", dirperm1.to_string()),
    ];
    Ok(facts.map(|(name, value)| (name.to_owned(), value)).into())
}

/// What the kernel has.
pub(crate) fn features(home: &Home) -> Vec<Feature> {
    match kernel::require() {
        Err(error) => {
            let reason = error.to_string();
            ["aufs", "dirperm1"].map(|name| Feature::off(name, reason.clone())).into()
        }
        Ok(()) if has_dirperm1(home) => ["aufs", "dirperm1"].map(Feature::on).into(),
        Ok(()) => vec![Feature::on("aufs"), Feature::off("dirperm1", "AUFS does not know the option")],
    }
}

/// Where the layer is kept. The Go drivers tell nothing; the keys are those of overlay.
pub(crate) fn metadata(home: &Home, id: &LayerId) -> Result<BTreeMap<String, String>> {
    let ancestors = home.ancestors("describe", id)?;
    let text = |path: PathBuf| path.display().to_string();
    let mut metadata = BTreeMap::from([
        ("UpperDir".to_owned(), text(home.diff(id))),
        ("MergedDir".to_owned(), text(home.mount_point(id))),
    ]);
    if !ancestors.is_empty() {
        let lowers: Vec<_> = ancestors.iter().map(|id| text(home.diff(id))).collect();
        metadata.insert("LowerDir".to_owned(), lowers.join(":"));
    }
    Ok(metadata)
}

/// What the layer's branch holds.
pub(crate) fn usage(home: &Home, id: &LayerId) -> Result<DiskUsage> {
    home.require("measure", id)?;
    Ok(archive::disk_usage(&RootDir::open(home.diff(id))?)?)
}
