//! Images as `docker save` writes them: `manifest.json` and layers that are found by path.

use graphdriver::Error;
use serde::Deserialize;

use super::blobs::Blobs;
use super::image::{self, Image};
use crate::digest::Digest;

#[derive(Debug, Deserialize)]
struct Item {
    #[serde(rename = "Config")]
    config: String,
    /// `null` for an image without a name.
    #[serde(rename = "RepoTags", default)]
    repo_tags: Option<Vec<String>>,
    #[serde(rename = "Layers")]
    layers: Vec<String>,
}

/// Finds the image called `name`, or the only one.
///
/// Layers may be plain files, `<id>/layer.tar`, blobs, or links to one another.
///
/// # Errors
/// `InvalidArchive` when the archive is malformed, the configuration has another digest than its name says, or there is no such image.
pub(super) fn open(blobs: Blobs, name: Option<&str>) -> Result<Image, Error> {
    let items: Vec<Item> = image::parse(&blobs, "manifest.json", &blobs.read_json("manifest.json")?)?;
    let item = choose(items, name)?;
    let configuration = blobs.read_json(&item.config)?;
    if let Some(digest) = digest_of_name(&item.config) {
        let actual = Digest::of(&configuration);
        if actual != digest {
            return Err(blobs.invalid(format!("the configuration {:?} has the digest {actual}", item.config)));
        }
    }
    let files = item.layers.into_iter().map(|name| (name, None)).collect();
    Image::new(blobs, &configuration, files)
}

fn choose(mut items: Vec<Item>, name: Option<&str>) -> Result<Item, Error> {
    let tags = |item: &Item| item.repo_tags.clone().unwrap_or_default();
    let found = match name {
        None => (items.len() == 1).then_some(0),
        Some(name) => {
            items.iter().position(|item| tags(item).iter().any(|tag| normalized(tag) == normalized(name)))
        }
    };
    if let Some(found) = found {
        return Ok(items.swap_remove(found));
    }
    let all: Vec<_> = items.iter().flat_map(tags).collect();
    let what =
        name.map_or("choose an image by name".to_owned(), |name| format!("no image is called {name:?}"));
    let (count, all) = (items.len(), all.join(", "));
    Err(image::not_chosen(format!("{what}; the archive has {count} images, with the names: {all}")))
}

/// Names of configurations are digests: `<digest>.json`, or `blobs/sha256/<digest>`.
fn digest_of_name(name: &str) -> Option<Digest> {
    let base = name.rsplit_once('/').map_or(name, |(_, base)| base);
    Digest::from_hex(base.strip_suffix(".json").unwrap_or(base))
}

/// The short form of a name: `docker.io/library/alpine:latest` and `alpine` are the same image.
fn normalized(name: &str) -> String {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let name = name.strip_prefix("library/").unwrap_or(name);
    let has_tag = name.rsplit_once('/').map_or(name, |(_, base)| base).contains([':', '@']);
    if has_tag { name.to_owned() } else { format!("{name}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items() -> Vec<Item> {
        let json = r#"[{"Config":"1","RepoTags":["docker.io/library/alpine:3.20","alpine:latest"],"Layers":[]},
                       {"Config":"2","RepoTags":null,"Layers":[]},
                       {"Config":"3","RepoTags":["localhost:5000/a/b:v1"],"Layers":[]}]"#;
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn names_in_every_spelling() {
        let table = [
            (Some("alpine"), Some("1")),
            (Some("alpine:3.20"), Some("1")),
            (Some("docker.io/library/alpine:latest"), Some("1")),
            (Some("localhost:5000/a/b:v1"), Some("3")),
            (Some("localhost:5000/a/b"), None),
            (Some("alpine:3"), None),
            (None, None),
        ];
        for (name, config) in table {
            let found = choose(items(), name).map(|item| item.config).ok();
            assert_eq!(found.as_deref(), config, "{name:?}");
        }
        let error = choose(items(), None).unwrap_err();
        assert!(error.to_string().contains("alpine:latest, localhost:5000/a/b:v1"), "{error}");
        assert_eq!(choose(items().split_off(2), None).unwrap().config, "3");
    }

    #[test]
    fn digests_in_names() {
        let digest = Digest::of(b"");
        for name in [format!("{}.json", digest.hex()), format!("blobs/sha256/{}", digest.hex())] {
            assert_eq!(digest_of_name(&name), Some(digest));
        }
        assert_eq!(digest_of_name("config.json"), None);
    }
}
