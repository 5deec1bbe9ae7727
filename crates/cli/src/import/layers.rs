//! The layers of an image become layers of a graph: verified first, then visible; all of them or none.

use graphdriver::{Applied, CreateOptions, Error, ErrorKind, Graph, LayerApplyOptions, LayerId, StagedApply};
use serde::Serialize;

use super::blobs::Blob;
use super::image::{Descriptor, Image, ImageLayer};
use super::interrupt::Interrupt;
use super::progress::{LayerProgress, Progress};
use crate::archive_stream::ArchiveStream;
use crate::digest::Digest;
use crate::failure::{Failure, Result};

/// A layer that the graph has now.
#[derive(Debug, Serialize)]
pub(crate) struct Imported {
    pub(crate) id: String,
    diff_id: Digest,
    /// It was there before.
    reused: bool,
}

/// Makes the layers of `image`, lowest first, and returns them.
///
/// # Errors
/// `InvalidArchive` when a layer is malformed or has another digest or size than the image says; otherwise as
/// [`Graph::create_filled`]. The layers that this call made are removed again, those that were there stay.
pub(crate) fn import(
    graph: &Graph,
    image: &Image,
    progress: &Progress,
    interrupt: &Interrupt,
) -> Result<Vec<Imported>> {
    let mut files = Vec::with_capacity(image.layers.len());
    // All are opened first: a missing or a short one is found before anything is unpacked.
    for layer in &image.layers {
        let blob = image.blobs.open(&layer.name)?;
        check_size(image, layer, &blob)?;
        let name = layer.descriptor.as_ref().map_or(layer.diff_id, |descriptor| descriptor.digest).short();
        let bar = progress.layer(name, blob.size());
        files.push((blob, bar));
    }
    let mut made = Made { graph, ids: Vec::new() };
    let mut imported: Vec<Imported> = Vec::with_capacity(files.len());
    let mut parent = None;
    for (layer, (blob, bar)) in image.layers.iter().zip(files) {
        let import = Import { graph, image, layer, parent, interrupt };
        let is_new = match import.run(blob, &bar) {
            Ok(is_new) => is_new,
            Err(failure) => {
                bar.failed();
                made.remove();
                return Err(failure);
            }
        };
        if is_new {
            made.ids.push(layer.id.clone());
        }
        bar.done(if is_new { "✓" } else { "✓ already here" });
        imported.push(Imported { id: layer.id.to_string(), diff_id: layer.diff_id, reused: !is_new });
        parent = Some(&layer.id);
    }
    Ok(imported)
}

/// The layers that were made so far, which go again when a later one cannot be made.
struct Made<'a> {
    graph: &'a Graph,
    ids: Vec<LayerId>,
}

impl Made<'_> {
    fn remove(self) {
        for id in self.ids.iter().rev() {
            match self.graph.remove(id) {
                Ok(()) => {}
                // Another process has built on it meanwhile; it is whole, so it may stay.
                Err(error) if error.kind() == ErrorKind::LayerInUse => return,
                Err(error) => tracing::warn!(error = %error.report(), "a layer of the failed import stays"),
            }
        }
    }
}

/// One layer on its way.
struct Import<'a> {
    graph: &'a Graph,
    image: &'a Image,
    layer: &'a ImageLayer,
    parent: Option<&'a LayerId>,
    interrupt: &'a Interrupt,
}

impl Import<'_> {
    /// Makes the layer; `false` when it is there already, or another process was faster.
    fn run(&self, blob: Blob, bar: &LayerProgress) -> Result<bool> {
        if self.graph.exists(&self.layer.id)? {
            return Ok(false);
        }
        let archive = ArchiveStream::new(self.interrupt.watching(bar.counting(blob)))?;
        let made = match self.graph.driver().staged_apply() {
            Some(power) => self.stage(power, archive),
            None => self.fill(archive),
        };
        match (made, self.interrupt.received()) {
            (Ok(()), _) => Ok(true),
            (Err(error), _) if error.kind() == ErrorKind::LayerExists => Ok(false),
            (Err(_), Some(signal)) => Err(Failure::Interrupted(signal)),
            (Err(error), None) => Err(error.driver(self.graph.name()).layer(&self.layer.id).into()),
        }
    }

    /// Out of sight until it is verified.
    fn stage(&self, power: &dyn StagedApply, mut archive: ArchiveStream) -> Result<(), Error> {
        let staged = power.stage(&self.create_options(), &mut archive, &apply_options())?;
        self.verify(archive, &staged.applied())?;
        staged.commit(&self.layer.id)
    }

    /// For drivers that cannot keep a layer out of sight.
    fn fill(&self, mut archive: ArchiveStream) -> Result<(), Error> {
        let id = &self.layer.id;
        let applied = self.graph.create_filled(id, &self.create_options(), &mut archive, &apply_options())?;
        self.verify(archive, &applied).inspect_err(|_| {
            if let Err(error) = self.graph.remove(id) {
                tracing::warn!(error = %error.report(), "a layer with a wrong digest stays");
            }
        })
    }

    fn create_options(&self) -> CreateOptions {
        CreateOptions { parent: self.parent.cloned(), ..CreateOptions::default() }
    }

    fn verify(&self, archive: ArchiveStream, applied: &Applied) -> Result<(), Error> {
        let contents = archive.finish().map_err(|error| Error::io("read", &self.layer.name, error))?;
        let diff_id = Digest::of_archive(applied)?;
        let plain = applied.archive.map_or(0, |archive| archive.bytes);
        let blob = contents.blob.unwrap_or((diff_id, plain));
        match mismatch(self.layer, blob, diff_id) {
            None => Ok(()),
            Some(what) => Err(self.image.blobs.invalid(format!("{:?} {what}", self.layer.name))),
        }
    }
}

fn apply_options() -> LayerApplyOptions {
    LayerApplyOptions { digest: true, ..LayerApplyOptions::default() }
}

fn check_size(image: &Image, layer: &ImageLayer, blob: &Blob) -> Result<(), Error> {
    match &layer.descriptor {
        Some(descriptor) if descriptor.size != blob.size() => {
            let what =
                format!("{:?} has {} bytes, the manifest says {}", layer.name, blob.size(), descriptor.size);
            Err(image.blobs.invalid(what))
        }
        _ => Ok(()),
    }
}

/// What is wrong with a layer whose contents have been read.
fn mismatch(layer: &ImageLayer, (blob, blob_bytes): (Digest, u64), diff_id: Digest) -> Option<String> {
    if let Some(Descriptor { digest, size, .. }) = &layer.descriptor
        && (blob, blob_bytes) != (*digest, *size)
    {
        let is = format!("{blob_bytes} bytes with the digest {blob}");
        return Some(format!("has {is}, the manifest says {size} with {digest}"));
    }
    let expected = layer.diff_id;
    (diff_id != expected)
        .then(|| format!("has the uncompressed digest {diff_id}, the configuration says {expected}"))
}
