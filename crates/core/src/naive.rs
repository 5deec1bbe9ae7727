//! Diff and apply for any driver that can mount: both layers are mounted and walked.
//!
//! Cost follows the size of the trees. Times are compared to the nanosecond, so that nothing has to wait for the clock's next second.

use std::io::Read;

use graphdriver_archive::{
    self as archive, Applied, ApplyOptions, Change, CompareOptions, Export, ExportOptions, IdMaps, RootDir,
    WhiteoutMode,
};

use crate::driver::MountOptions;
use crate::error::Result;
use crate::graph::Graph;
use crate::layer_diff::LayerDiff;
use crate::layer_id::LayerId;
use crate::mount::Mount;
use crate::powers::LayerApplyOptions;
use crate::trees::in_user_namespace;

/// The change set of `id` against `base` as a tar, by walking both; see [`Graph::diff`].
///
/// # Errors
/// As [`Graph::diff`].
#[doc(alias = "NaiveDiffDriver")]
pub fn diff(graph: &Graph, id: &LayerId, base: Option<&LayerId>, id_maps: &IdMaps) -> Result<LayerDiff> {
    let mount = graph.mount(id, &MountOptions::read_only())?;
    let root = RootDir::open(mount.path())?;
    let options = ExportOptions { id_maps: id_maps.clone() };
    let export = match base {
        None => Export::tree(&root, options)?,
        Some(base) => {
            let changes = compare(graph, &root, Some(base))?;
            Export::changes(&root, changes, options)?
        }
    };
    Ok(LayerDiff::new(export).holding(mount))
}

/// What differs in `id` from `base`, by walking both; see [`Graph::changes`].
///
/// # Errors
/// As [`Graph::changes`].
pub fn changes(graph: &Graph, id: &LayerId, base: Option<&LayerId>) -> Result<Vec<Change>> {
    on_mounted(graph, id, &MountOptions::read_only(), |root| compare(graph, root, base))
}

/// Bytes of added and modified files, by walking both; see [`Graph::diff_size`].
///
/// # Errors
/// As [`Graph::diff_size`].
pub fn diff_size(graph: &Graph, id: &LayerId, base: Option<&LayerId>) -> Result<u64> {
    on_mounted(graph, id, &MountOptions::read_only(), |root| {
        let changes = compare(graph, root, base)?;
        Ok(archive::changes_size(root, &changes)?)
    })
}

/// Fills the mounted layer, carrying out whiteouts; see [`Graph::apply`].
///
/// # Errors
/// As [`Graph::apply`]. What was unpacked before an error stays.
#[doc(alias = "ApplyUncompressedLayer")]
pub fn apply(
    graph: &Graph,
    id: &LayerId,
    tar: &mut dyn Read,
    options: &LayerApplyOptions,
) -> Result<Applied> {
    let options = ApplyOptions {
        whiteouts: WhiteoutMode::Execute,
        id_maps: options.id_maps.clone(),
        ignore_chown_errors: options.ignore_chown_errors,
        force_mask: options.force_mask,
        in_user_namespace: in_user_namespace()?,
        digest: options.digest,
        ..ApplyOptions::default()
    };
    on_mounted(graph, id, &MountOptions::default(), |root| Ok(archive::apply(root, tar, &options)?))
}

fn compare(graph: &Graph, new: &RootDir, base: Option<&LayerId>) -> Result<Vec<Change>> {
    let options = CompareOptions::default();
    match base {
        None => Ok(archive::changes(new, None, &options)?),
        Some(base) => on_mounted(graph, base, &MountOptions::read_only(), |old| {
            Ok(archive::changes(new, Some(old), &options)?)
        }),
    }
}

/// Runs `work` on the mounted layer; a failure to unmount is reported when nothing else failed.
fn on_mounted<T>(
    graph: &Graph,
    id: &LayerId,
    options: &MountOptions,
    work: impl FnOnce(&RootDir) -> Result<T>,
) -> Result<T> {
    let mount = graph.mount(id, options)?;
    let result = RootDir::open(mount.path()).map_err(Into::into).and_then(|root| work(&root));
    let unmounted = Mount::unmount(mount);
    result.and_then(|value| unmounted.map(|()| value))
}
