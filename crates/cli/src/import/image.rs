//! What an image says about its layers, whatever form it is kept in.

use graphdriver::{Error, ErrorKind, LayerId};
use serde::Deserialize;

use super::blobs::Blobs;
use crate::digest::Digest;

/// An image that can be imported: its layers, lowest first.
#[derive(Debug)]
pub(crate) struct Image {
    pub(super) blobs: Blobs,
    pub(super) layers: Vec<ImageLayer>,
}

/// One layer of an image.
#[derive(Clone, Debug)]
pub(super) struct ImageLayer {
    /// Name of its file in the image.
    pub(super) name: String,
    /// What the manifest says about that file; docker-archives say nothing.
    pub(super) descriptor: Option<Descriptor>,
    /// Digest of the uncompressed tar, from the image's configuration.
    pub(super) diff_id: Digest,
    /// The layer's name in a store.
    pub(super) id: LayerId,
}

/// A reference to a blob: media type, digest and size (OCI image specification, descriptor).
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Descriptor {
    #[serde(rename = "mediaType", default)]
    pub(super) media_type: String,
    pub(super) digest: Digest,
    /// Bytes.
    pub(super) size: u64,
}

/// The part of an image's configuration that matters for layers; Docker's has the same form.
#[derive(Debug, Deserialize)]
struct Configuration {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    rootfs: RootFs,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    diff_ids: Vec<Digest>,
}

impl Image {
    /// Puts together layer files and the configuration that belongs to them.
    ///
    /// # Errors
    /// `InvalidArchive` when there are not as many of one as of the other, or none.
    pub(super) fn new(
        blobs: Blobs,
        configuration: &[u8],
        files: Vec<(String, Option<Descriptor>)>,
    ) -> Result<Self, Error> {
        let configuration: Configuration = parse(&blobs, "the image configuration", configuration)?;
        let diff_ids = configuration.rootfs.diff_ids;
        if diff_ids.len() != files.len() {
            let what =
                format!("the manifest has {} layers, the configuration {}", files.len(), diff_ids.len());
            return Err(blobs.invalid(what));
        }
        if files.is_empty() {
            return Err(blobs.invalid("the image has no layers"));
        }
        warn_of_other_platform(&configuration.os, &configuration.architecture);
        let mut layers = Vec::with_capacity(files.len());
        for ((name, descriptor), (diff_id, id)) in
            files.into_iter().zip(diff_ids.iter().zip(chain_ids(&diff_ids)?))
        {
            layers.push(ImageLayer { name, descriptor, diff_id: *diff_id, id });
        }
        Ok(Self { blobs, layers })
    }
}

/// Parses one JSON document of an image.
///
/// # Errors
/// `InvalidArchive` saying where it is malformed.
pub(super) fn parse<'de, T: Deserialize<'de>>(
    blobs: &Blobs,
    what: &str,
    json: &'de [u8],
) -> Result<T, Error> {
    serde_json::from_slice(json).map_err(|error| blobs.invalid(format!("{what} is malformed")).source(error))
}

/// This machine's architecture under the name that images use (Go's `GOARCH`).
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "powerpc64" => "ppc64",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// The id of each layer: the digest of its own and of all `diff_ids` below, as the OCI image specification's chain id, without `sha256:`.
fn chain_ids(diff_ids: &[Digest]) -> Result<Vec<LayerId>, Error> {
    let mut below: Option<Digest> = None;
    let ids = diff_ids.iter().map(|diff_id| {
        let chain_id = match below {
            None => *diff_id,
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        };
        below = Some(chain_id);
        chain_id.hex().parse()
    });
    ids.collect()
}

/// Layers of another platform can be kept like any other; running something on them is what fails.
fn warn_of_other_platform(os: &str, architecture_of_image: &str) {
    let is_other = |value: &str, ours: &str| !value.is_empty() && value != ours;
    if is_other(os, "linux") || is_other(architecture_of_image, architecture()) {
        tracing::warn!(os, architecture = architecture_of_image, "the image is for another platform");
    }
}

/// An image that nothing can be made of because it asks for more than this program has.
pub(super) fn unsupported(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::NotSupported, "read image").detail(detail)
}

/// The user has to say which image is meant.
pub(super) fn not_chosen(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, "choose image").detail(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(digit: char) -> Digest {
        Digest::from_hex(&digit.to_string().repeat(64)).unwrap()
    }

    fn new(configuration: &str, files: usize) -> Result<Image, Error> {
        let files = (0..files).map(|number| (number.to_string(), None)).collect();
        Image::new(Blobs::Directory("image".into()), configuration.as_bytes(), files)
    }

    #[test]
    fn chain_ids_follow_the_specification() {
        let ids = chain_ids(&[digest('1'), digest('2'), digest('3')]).unwrap();
        assert_eq!(ids[0].as_str(), "1".repeat(64));
        // sha256("sha256:11.. sha256:22.."), and so on, by sha256sum(1).
        assert_eq!(ids[1].as_str(), "9932074217c35353d2e03a3f5a86549f7c67bfeb0ba53e23d69f4d4c8f7958f5");
        assert_eq!(ids[2].as_str(), "50127c0d6b338be78246434b4bce23ecf75e505158ea0bbd15effeb162fbf3ec");
    }

    #[test]
    fn configuration_and_files_have_to_agree() {
        let configuration =
            format!(r#"{{"os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#, digest('1'));
        assert_eq!(new(&configuration, 1).unwrap().layers[0].diff_id, digest('1'));
        for (configuration, files) in [
            (configuration.as_str(), 2),
            (configuration.as_str(), 0),
            (r#"{"rootfs":{"diff_ids":[]}}"#, 0),
            (r#"{"rootfs":{"diff_ids":["sha256:1"]}}"#, 1),
            (r#"{"rootfs":{}}"#, 1),
            ("{}", 1),
            ("[", 1),
            ("", 1),
        ] {
            let error = new(configuration, files).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArchive, "{configuration}");
        }
    }
}
