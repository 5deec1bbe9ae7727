//! What can be told about the driver and its layers.

use std::collections::BTreeMap;
use std::path::Path;

use graphdriver_archive::whiteout::OverlayXattrs;
use graphdriver_archive::{self as archive, RootDir};
use graphdriver_core::{self as core, Capabilities, DiskUsage, Error, LayerId, Result};

use crate::composefs;
use crate::home::Home;
use crate::layout::{COMPOSEFS_DATA, LayerDir};
use crate::lowers;
use crate::mount::MountApi;
use crate::probe::{Feature, Verdict};

/// What the driver can do.
pub(crate) fn capabilities(home: &Home) -> Capabilities {
    Capabilities {
        native_diff: home.no_native_diff().is_none(),
        native_apply: true,
        staged_apply: true,
        exact_diffs: true,
        id_shifting: home.shifting.is_on(),
        quota: home.quotas.unavailable().is_none(),
        volatile: home.support.dialect.volatile,
        user_namespace: home.support.user_namespace,
        ..Capabilities::default()
    }
}

/// The keys of containers/storage in its order, then Docker's, then ours.
pub(crate) fn status(home: &Home) -> Vec<(String, String)> {
    let dialect = home.support.dialect;
    let mount_api = match (&home.mount_program, dialect.api) {
        (Some(program), _) => program.path().display().to_string(),
        (None, MountApi::FsContext) => "fsconfig".to_owned(),
        (None, MountApi::Mount) => "mount".to_owned(),
    };
    [
        ("Backing Filesystem", home.support.backing.to_string()),
        // Without it the home does not open.
        ("Supports d_type", true.to_string()),
        ("Native Overlay Diff", home.no_native_diff().is_none().to_string()),
        ("Using metacopy", uses_metacopy(home).to_string()),
        ("Supports shifting", home.shifting.is_on().to_string()),
        ("Supports volatile", dialect.volatile.to_string()),
        ("userxattr", (dialect.xattrs == OverlayXattrs::User).to_string()),
        ("Mount API", mount_api),
        ("Project quota", home.quotas.status()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// What was found out about kernel and file system; the rest is tried now.
pub(crate) fn features(home: &Home) -> Vec<core::Feature> {
    // Without these two the home does not open.
    let needed = ["overlay", "d_type"].map(core::Feature::on);
    let probed = [
        ("redirect_dir", Feature::RedirectDir),
        ("metacopy", Feature::Metacopy),
        ("index", Feature::Index),
        ("userxattr", Feature::Userxattr),
        ("volatile", Feature::Volatile),
        ("data_only_lowers", Feature::DataOnlyLowers),
    ];
    let probed = probed.map(|(name, feature)| named(name, home.probes.verdict(feature)));
    needed
        .into_iter()
        .chain(probed)
        .chain([composefs(home), id_mapped_lowers(home), native_diff(home)])
        .collect()
}

/// The options in force: given, or by default.
pub(crate) fn options(home: &Home) -> Vec<(&'static str, String)> {
    let options = &home.options;
    let dropped = |option: &&String| *option == "metacopy=on" && !uses_metacopy(home);
    let mount_options: Vec<_> =
        options.mount_options.iter().filter(|option| !dropped(option)).cloned().collect();
    let mask = options.force_mask.map(|mask| format!("{mask:04o}"));
    let given = [
        ("mountopt", Some(mount_options.join(",")).filter(|text| !text.is_empty())),
        ("force_mask", mask),
        ("ignore_chown_errors", Some(options.ignore_chown_errors.to_string())),
        ("skip_mount_home", Some(true.to_string())),
        ("sync", Some(options.sync.to_string())),
        ("use_composefs", Some(options.use_composefs.to_string())),
    ];
    given.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

fn named(name: &'static str, verdict: Verdict) -> core::Feature {
    match verdict {
        Verdict::On => core::Feature::on(name),
        Verdict::Off(reason) => core::Feature::off(name, reason),
    }
}

fn composefs(home: &Home) -> core::Feature {
    let name = "composefs";
    match composefs::find(&home.probes, home.tuning.id_mapping) {
        Ok(_) => core::Feature::on(name),
        Err(reason) => core::Feature::off(name, reason),
    }
}

fn id_mapped_lowers(home: &Home) -> core::Feature {
    let name = "id_mapped_lowers";
    home.shifting.reason().map_or_else(|| core::Feature::on(name), |reason| core::Feature::off(name, reason))
}

fn native_diff(home: &Home) -> core::Feature {
    let name = "native_diff";
    home.no_native_diff().map_or_else(|| core::Feature::on(name), |reason| core::Feature::off(name, reason))
}

/// Whether changed metadata is stored without contents, because it was asked for and can be had.
fn uses_metacopy(home: &Home) -> bool {
    let asked = home.options.mount_options.iter().any(|option| option == "metacopy=on");
    asked && home.probes.verdict(Feature::Metacopy).is_on()
}

/// The directories of a layer.
pub(crate) fn metadata(home: &Home, id: &LayerId) -> Result<BTreeMap<String, String>> {
    home.stores.with_layer("describe", id, |layer| describe(home, layer))
}

fn describe(home: &Home, layer: &LayerDir) -> Result<BTreeMap<String, String>> {
    let text = |path: &Path| path.display().to_string();
    let own = layer.diffs();
    let (upper, rotated) = own.split_first().ok_or_else(|| Error::layer_unknown("describe", layer.id()))?;
    let mut metadata = BTreeMap::from([
        ("WorkDir".to_owned(), text(&layer.work())),
        ("MergedDir".to_owned(), text(&layer.merged())),
        ("UpperDir".to_owned(), text(upper)),
    ]);
    let below = lowers::resolve(&home.stores, layer)?;
    let below = below.iter().flat_map(|lower| lower.layer.diffs());
    let lower: Vec<_> = rotated.iter().cloned().chain(below).map(|path| text(&path)).collect();
    if !lower.is_empty() {
        metadata.insert("LowerDir".to_owned(), lower.join(":"));
    }
    Ok(metadata)
}

/// What the file system counts for the layer, or else what its own directories hold.
pub(crate) fn usage(home: &Home, id: &LayerId) -> Result<DiskUsage> {
    home.stores.with_layer("measure", id, |layer| measure(home, layer))
}

fn measure(home: &Home, layer: &LayerDir) -> Result<DiskUsage> {
    if let Some(usage) = home.quotas.usage(layer.path())? {
        return Ok(usage);
    }
    let mut usage = DiskUsage::default();
    let image = layer.is_image().then(|| layer.path().join(COMPOSEFS_DATA));
    for directory in layer.diffs().into_iter().chain(image) {
        let part = archive::disk_usage(&RootDir::open(directory)?)?;
        usage.bytes += part.bytes;
        usage.inodes += part.inodes;
    }
    Ok(usage)
}
