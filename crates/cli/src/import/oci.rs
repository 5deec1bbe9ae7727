//! Images in the OCI image layout: `index.json`, manifests and configurations below `blobs/`.
//!
//! Follows the OCI image specification 1.1; Docker's media types mean the same.

use std::collections::BTreeMap;

use graphdriver::Error;
use serde::Deserialize;

use super::blobs::Blobs;
use super::image::{self, Descriptor, Image};

/// Most indexes inside one another that are followed.
const MAX_DEPTH: usize = 4;

/// The annotation that holds an image's name in a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];

const MANIFESTS: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];

const CONFIGURATIONS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// Beginnings of the media types of layers. How a layer is compressed is told by its contents: media types are wrong in too many images.
const LAYERS: [&str; 4] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
];

/// What may follow such a beginning.
const LAYER_ENDS: [&str; 4] = ["", "+gzip", "+zstd", ".gzip"];

#[derive(Debug, Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(flatten)]
    descriptor: Descriptor,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

/// Finds the image called `name`, or the only one.
///
/// # Errors
/// `InvalidArchive` when the layout is malformed, a digest is wrong, or there is no such image; `NotSupported` for artifacts that are no file-system
/// image and for other platforms only.
pub(super) fn open(blobs: Blobs, name: Option<&str>) -> Result<Image, Error> {
    let index: Index = image::parse(&blobs, "index.json", &blobs.read_json("index.json")?)?;
    let descriptor = choose_named(&index, name)?.clone();
    let manifest = manifest(&blobs, descriptor)?;
    let Some(config) = manifest.config.filter(|config| CONFIGURATIONS.contains(&&*config.media_type)) else {
        return Err(image::unsupported(
            "the manifest describes an artifact, not an image with a file system",
        ));
    };
    let mut files = Vec::with_capacity(manifest.layers.len());
    for layer in manifest.layers {
        if !is_layer(&layer.media_type) {
            return Err(image::unsupported(format!("a layer has the media type {:?}", layer.media_type)));
        }
        files.push((format!("blobs/sha256/{}", layer.digest.hex()), Some(layer)));
    }
    let configuration = blobs.read_blob(&config.digest, config.size)?;
    Image::new(blobs, &configuration, files)
}

/// Follows indexes down to a manifest.
fn manifest(blobs: &Blobs, mut descriptor: Descriptor) -> Result<Manifest, Error> {
    for _ in 0..MAX_DEPTH {
        let json = blobs.read_blob(&descriptor.digest, descriptor.size)?;
        if MANIFESTS.contains(&&*descriptor.media_type) {
            return image::parse(blobs, "the image manifest", &json);
        }
        if !INDEXES.contains(&&*descriptor.media_type) {
            return Err(image::unsupported(format!(
                "{} has the media type {:?}",
                descriptor.digest, descriptor.media_type
            )));
        }
        let index: Index = image::parse(blobs, "the image index", &json)?;
        descriptor = choose_platform(&index)?.clone();
    }
    Err(blobs.invalid("an image index leads to an index to an index without end"))
}

fn choose_named<'a>(index: &'a Index, name: Option<&str>) -> Result<&'a Descriptor, Error> {
    let wanted = |entry: &&Entry| {
        name.is_none_or(|name| entry.annotations.get(REF_NAME).is_some_and(|has| has == name))
    };
    let found: Vec<_> = index.manifests.iter().filter(wanted).collect();
    match (&*found, name) {
        ([only], _) => Ok(&only.descriptor),
        // One name for several platforms is legal, and so are several platforms without a name.
        ([_, _, ..], _) if found.iter().all(|entry| entry.platform.is_some()) && have_one_name(&found) => {
            choose(found.into_iter())
        }
        (_, None) => Err(image::not_chosen(format!("choose an image by name: {}", names(index)))),
        (_, Some(name)) => {
            Err(image::not_chosen(format!("no one image is called {name:?}; there are: {}", names(index))))
        }
    }
}

fn have_one_name(entries: &[&Entry]) -> bool {
    entries.windows(2).all(|pair| pair[0].annotations.get(REF_NAME) == pair[1].annotations.get(REF_NAME))
}

fn names(index: &Index) -> String {
    let name = |entry: &Entry| match entry.annotations.get(REF_NAME) {
        Some(name) => format!("{name:?}"),
        None => format!("{} without a name", entry.descriptor.digest),
    };
    match &*index.manifests {
        [] => "none".to_owned(),
        entries => entries.iter().map(name).collect::<Vec<_>>().join(", "),
    }
}

/// The entry for this machine; an index of one that says nothing about platforms is for all.
fn choose_platform(index: &Index) -> Result<&Descriptor, Error> {
    match &*index.manifests {
        [only] if only.platform.is_none() => Ok(&only.descriptor),
        entries => choose(entries.iter()),
    }
}

fn choose<'a>(entries: impl Iterator<Item = &'a Entry> + Clone) -> Result<&'a Descriptor, Error> {
    let ours = |platform: &Platform| platform.os == "linux" && platform.architecture == image::architecture();
    let found = entries.clone().find(|entry| entry.platform.as_ref().is_some_and(ours));
    found.map(|entry| &entry.descriptor).ok_or_else(|| {
        let platforms = entries.filter_map(|entry| entry.platform.as_ref());
        let platforms: Vec<_> = platforms.map(|has| format!("{}/{}", has.os, has.architecture)).collect();
        let wanted = image::architecture();
        image::unsupported(format!("no image for linux/{wanted}; there are: {}", platforms.join(", ")))
    })
}

fn is_layer(media_type: &str) -> bool {
    LAYERS
        .iter()
        .any(|beginning| media_type.strip_prefix(beginning).is_some_and(|end| LAYER_ENDS.contains(&end)))
}

#[cfg(test)]
mod tests {
    use std::slice;

    use graphdriver::ErrorKind;

    use super::*;

    fn index(json: &str) -> Index {
        serde_json::from_str(json).unwrap()
    }

    fn entry(digit: char, name: &str, architecture: &str) -> String {
        let digest = digit.to_string().repeat(64);
        let name = if name.is_empty() {
            String::new()
        } else {
            format!(r#","annotations":{{"{REF_NAME}":"{name}"}}"#)
        };
        let platform = match architecture {
            "" => String::new(),
            architecture => format!(r#","platform":{{"os":"linux","architecture":"{architecture}"}}"#),
        };
        format!(r#"{{"mediaType":"{}","digest":"sha256:{digest}","size":1{name}{platform}}}"#, MANIFESTS[0])
    }

    fn choose_named_of(entries: &[String], name: Option<&str>) -> Result<char, Error> {
        let index = index(&format!(r#"{{"manifests":[{}]}}"#, entries.join(",")));
        choose_named(&index, name).map(|descriptor| descriptor.digest.hex().chars().next().unwrap())
    }

    #[test]
    fn by_name() {
        let (one, two, unnamed) = (entry('1', "v1", ""), entry('2', "v2", ""), entry('3', "", ""));
        assert_eq!(choose_named_of(slice::from_ref(&one), None).unwrap(), '1');
        assert_eq!(choose_named_of(slice::from_ref(&unnamed), None).unwrap(), '3');
        assert_eq!(choose_named_of(&[one.clone(), two.clone(), unnamed.clone()], Some("v2")).unwrap(), '2');
        let error = choose_named_of(&[one.clone(), two.clone(), unnamed], None).unwrap_err();
        assert!(error.to_string().contains("\"v1\", \"v2\", sha256:333"), "{error}");
        assert!(choose_named_of(slice::from_ref(&one), Some("v2")).is_err());
        assert!(choose_named_of(&[one.clone(), entry('4', "v1", "")], Some("v1")).is_err());
        assert!(choose_named_of(&[], None).is_err());
    }

    #[test]
    fn by_platform() {
        let ours = image::architecture();
        let (other, mine) = (entry('1', "v1", "pdp11"), entry('2', "v1", ours));
        assert_eq!(choose_named_of(&[other.clone(), mine.clone()], None).unwrap(), '2');
        assert_eq!(choose_named_of(&[other.clone(), mine], Some("v1")).unwrap(), '2');
        let error = choose_named_of(&[other.clone(), other], None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotSupported);
        assert!(error.to_string().contains("pdp11"), "{error}");
    }

    #[test]
    fn media_types_of_layers() {
        for good in [
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        ] {
            assert!(is_layer(good), "{good}");
        }
        for bad in [
            "",
            "application/octet-stream",
            "application/vnd.in-toto+json",
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            "application/vnd.oci.image.layer.v1.erofs",
        ] {
            assert!(!is_layer(bad), "{bad}");
        }
    }
}
