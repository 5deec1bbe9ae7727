//! Images made for a test, right or wrong in one place.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The digest of `bytes` as images write it.
pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A layer as it lies in an image.
pub(crate) struct Layer {
    pub(crate) media_type: &'static str,
    pub(crate) blob: Vec<u8>,
    pub(crate) diff_id: String,
}

pub(crate) fn plain(tar: &[u8]) -> Layer {
    Layer { media_type: "application/vnd.oci.image.layer.v1.tar", blob: tar.to_vec(), diff_id: digest(tar) }
}

pub(crate) fn gzip(tar: &[u8]) -> Layer {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, tar).unwrap();
    let media_type = "application/vnd.oci.image.layer.v1.tar+gzip";
    Layer { media_type, blob: encoder.finish().unwrap(), diff_id: digest(tar) }
}

pub(crate) fn zstd(tar: &[u8]) -> Layer {
    let media_type = "application/vnd.oci.image.layer.v1.tar+zstd";
    Layer { media_type, blob: zstd::encode_all(tar, 1).unwrap(), diff_id: digest(tar) }
}

/// An OCI layout in a directory.
pub(crate) struct Layout<'a>(pub(crate) &'a Path);

impl Layout<'_> {
    /// Stores a blob and returns its descriptor.
    pub(crate) fn blob(&self, media_type: &str, contents: &[u8]) -> Value {
        let digest = digest(contents);
        let path = self.blob_path(&digest);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": contents.len()})
    }

    pub(crate) fn blob_path(&self, digest: &str) -> std::path::PathBuf {
        self.0.join("blobs").join(digest.replace(':', "/"))
    }

    /// Stores an image and returns its manifest's descriptor. `adjust` may break the configuration and the manifest.
    pub(crate) fn image(&self, layers: &[Layer], adjust: impl FnOnce(&mut Value, &mut Value)) -> Value {
        let diff_ids: Vec<_> = layers.iter().map(|layer| &layer.diff_id).collect();
        let mut config = json!({"os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let descriptors: Vec<_> =
            layers.iter().map(|layer| self.blob(layer.media_type, &layer.blob)).collect();
        let mut manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": descriptors});
        manifest["config"] = json!({"mediaType": "application/vnd.oci.image.config.v1+json"});
        adjust(&mut config, &mut manifest);
        let media_type = manifest["config"]["mediaType"].as_str().unwrap().to_owned();
        manifest["config"] = self.blob(&media_type, config.to_string().as_bytes());
        self.blob(MANIFEST, manifest.to_string().as_bytes())
    }

    /// Writes `index.json`.
    pub(crate) fn index(&self, manifests: &[Value]) {
        fs::create_dir_all(self.0).unwrap();
        fs::write(self.0.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        fs::write(self.0.join("index.json"), json!({"schemaVersion": 2, "manifests": manifests}).to_string())
            .unwrap();
    }

    /// Everything as a tar, as `oci-archive` has it.
    pub(crate) fn tar(&self) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_dir_all(".", self.0).unwrap();
        builder.into_inner().unwrap()
    }
}

/// A descriptor with a name.
pub(crate) fn named(mut descriptor: Value, name: &str) -> Value {
    descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    descriptor
}

/// A descriptor for one platform.
pub(crate) fn platform(mut descriptor: Value, os: &str, architecture: &str) -> Value {
    descriptor["platform"] = json!({"os": os, "architecture": architecture});
    descriptor
}

/// The architecture of this machine under the name that images use.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The ids that an image's layers get.
pub(crate) fn chain_ids(layers: &[Layer]) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for layer in layers {
        let id = match ids.last() {
            None => layer.diff_id.clone(),
            Some(below) => digest(format!("sha256:{below} {}", layer.diff_id).as_bytes()),
        };
        ids.push(id["sha256:".len()..].to_owned());
    }
    ids
}
