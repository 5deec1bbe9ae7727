//! Filling a layer by other means than an uncompressed tar.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;

use graphdriver_archive::{Applied, ApplyOptions, RootDir};

use crate::error::Result;

/// Fills the directory of a new layer: from files of layers that are there already and the parts of a blob that are missing, from a store of contents, from another machine.
///
/// Given to [`StagedApply::stage_with`](crate::StagedApply::stage_with).
pub trait Differ: fmt::Debug {
    /// Makes `directory` the change set of the layer, in the form that `options` ask for: whiteouts, owners, modes.
    ///
    /// `directory` is what a new layer is: empty, or the parent's tree where a driver keeps copies (`options.whiteouts` says to carry whiteouts out then). It has the mode and owner of the parent's root, which stay unless this knows the layer's own, and is on the file system of the home, so that files of other layers there can be linked or
    /// share their blocks. Nobody else sees it, and no lock is held. [`ApplyOptions::lowers`] are the layers below; `threads` and `digest` are advice.
    ///
    /// # Errors
    /// Whatever went wrong; the directory is deleted then.
    #[doc(alias = "ApplyDiff")]
    fn fill(&mut self, directory: &RootDir, options: &ApplyOptions) -> Result<DifferOutput>;
}

/// What a [`Differ`] has found out about the layer. What it does not know is empty.
#[derive(Debug, Default)]
#[doc(alias = "DriverWithDifferOutput")]
pub struct DifferOutput {
    /// Entries, and bytes of their contents; digest and size of the layer's uncompressed tar, if that is known.
    #[doc(alias = "UncompressedDigest")]
    pub applied: Applied,
    /// Whether `applied` says how many entries and bytes there are; otherwise they are zero.
    #[doc(alias = "Size")]
    pub is_size_known: bool,
    /// Digest of the blob that the registry has (`sha256:<hex>`).
    pub compressed_digest: Option<String>,
    /// Digest of the table of contents that the files were checked against (`sha256:<hex>`).
    #[doc(alias = "TOCDigest")]
    pub toc_digest: Option<String>,
    /// Owners that the layer's files have in the container.
    #[doc(alias = "UIDs")]
    pub uids: BTreeSet<u32>,
    /// Groups that the layer's files have in the container.
    #[doc(alias = "GIDs")]
    pub gids: BTreeSet<u32>,
    /// Data to be kept with the layer by whoever keeps the list of layers, by names.
    pub big_data: BTreeMap<String, Vec<u8>>,
    /// The record from which the layer's tar can be put together again, as github.com/vbatts/tar-split has it, compressed with gzip or not. Drivers with
    /// [`exact_diffs`](crate::Capabilities::exact_diffs) keep it, if the digest is known and [`LayerApplyOptions::skip_record`](crate::LayerApplyOptions::skip_record) is not set.
    pub tar_split: Option<File>,
    /// Anything else.
    pub metadata: String,
}
