//! Images of every form, and images that are wrong in one place.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::image::{
    INDEX, Layer, Layout, architecture, chain_ids, digest, gzip, named, plain, platform, zstd,
};
use crate::store::{Entry, Store, tar};

/// Three layers, each compressed otherwise; the last one removes a file of the first.
fn layers() -> [Layer; 3] {
    [
        gzip(&tar(&[Entry::Dir("etc"), Entry::File("etc/a", "one"), Entry::File("etc/b", "one")])),
        zstd(&tar(&[Entry::Dir("etc"), Entry::File("etc/a", "two")])),
        plain(&tar(&[Entry::Dir("etc"), Entry::File("etc/.wh.b", ""), Entry::File("c", "three")])),
    ]
}

fn layout(store: &Store) -> PathBuf {
    let path = store.path("image");
    let layout = Layout(&path);
    layout.index(&[named(layout.image(&layers(), |_, _| {}), "v1")]);
    path
}

fn reference(transport: &str, path: &Path) -> String {
    format!("{transport}:{}", path.display())
}

fn assert_imported(store: &Store, image: &str) {
    let ids = chain_ids(&layers());
    assert_eq!(store.ok(&["import", image]).trim_end(), ids[2], "{image}");
    assert_eq!(store.list().len(), 3);
    assert_eq!(store.read(&ids[2], "etc/a").as_deref(), Some("two"));
    assert_eq!(store.read(&ids[2], "etc/b"), None);
    assert_eq!(store.read(&ids[1], "etc/b").as_deref(), Some("one"));
    assert_eq!(store.ok(&["changes", &ids[2]]), "A /c\nC /etc\nD /etc/b\n");
    store.assert_clean();
}

#[test]
fn a_directory_and_a_tar_of_it() {
    for transport in ["oci", "oci-archive"] {
        let store = Store::new();
        let mut path = layout(&store);
        if transport == "oci-archive" {
            let archive = store.path("image.tar");
            fs::write(&archive, Layout(&path).tar()).unwrap();
            path = archive;
        }
        assert_imported(&store, &reference(transport, &path));
        assert_imported(&store, &(reference(transport, &path) + ":v1"));
    }
}

#[test]
fn layers_that_are_there_are_reused() {
    let store = Store::new();
    let path = layout(&store);
    let import =
        || serde_json::from_str::<Value>(&store.ok(&["--json", "import", &reference("oci", &path)])).unwrap();
    let reused = |json: &Value| {
        json.as_array().unwrap().iter().map(|layer| layer["reused"] == true).collect::<Vec<_>>()
    };
    let ids = chain_ids(&layers());
    let first = import();
    assert_eq!(reused(&first), [false; 3]);
    assert_eq!(first[1]["id"], ids[1]);
    assert_eq!(first[1]["diff_id"], layers()[1].diff_id);
    assert_eq!(reused(&import()), [true; 3]);
    store.ok(&["remove", &ids[2], &ids[1]]);
    assert_eq!(reused(&import()), [true, false, false]);
}

#[test]
fn one_image_among_several() {
    let store = Store::new();
    let path = store.path("image");
    let layout = Layout(&path);
    let (one, two) = (plain(&tar(&[Entry::File("one", "")])), plain(&tar(&[Entry::File("two", "")])));
    let wanted = &chain_ids(std::slice::from_ref(&two))[0];
    let two = layout.image(std::slice::from_ref(&two), |_, _| {});
    let one = layout.image(std::slice::from_ref(&one), |_, _| {});
    let other = platform(one.clone(), "linux", "pdp11");
    let nested = json!({"schemaVersion": 2, "manifests": [other, platform(two, "linux", architecture())]});
    let nested = layout.blob(INDEX, nested.to_string().as_bytes());
    layout.index(&[named(one, "one"), named(nested, "quay.io/a/two:v1")]);
    let image = reference("oci", &path);
    let message = store.fails(&["import", &image], 2);
    assert!(message.contains("\"one\", \"quay.io/a/two:v1\""), "{message}");
    store.fails(&["import", &format!("{image}:three")], 2);
    assert_eq!(store.ok(&["import", &format!("{image}:quay.io/a/two:v1")]).trim_end(), wanted);
}

#[test]
fn what_docker_saves() {
    let layers = layers();
    let config =
        json!({"rootfs": {"diff_ids": layers.iter().map(|layer| &layer.diff_id).collect::<Vec<_>>()}})
            .to_string();
    let config_name = format!("{}.json", &digest(config.as_bytes())["sha256:".len()..]);
    let manifest = |config: &str| {
        let layers = ["0/layer.tar", "1/layer.tar", "link/layer.tar"];
        json!([{"Config": config, "RepoTags": ["docker.io/library/x:v1"], "Layers": layers}]).to_string()
    };
    let archive = |manifest: &str, config: &str| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |name: &str, contents: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(contents.len() as u64);
            builder.append_data(&mut header, name, contents).unwrap();
        };
        add(&config_name, config.as_bytes());
        for (number, layer) in layers.iter().enumerate() {
            add(&format!("{number}/layer.tar"), &layer.blob);
        }
        add("manifest.json", manifest.as_bytes());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "link/layer.tar", "../2/layer.tar").unwrap();
        builder.into_inner().unwrap()
    };
    let store = Store::new();
    let path = store.path("docker.tar");
    let image = reference("docker-archive", &path);
    fs::write(&path, archive(&manifest(&config_name), &config)).unwrap();
    assert_imported(&store, &image);
    assert_imported(&store, &format!("{image}:x:v1"));
    store.fails(&["import", &format!("{image}:x:v2")], 2);

    let store = Store::new();
    for (broken, about) in [
        (archive(&manifest(&config_name), &config.replace("rootfs", "rootfs ")), "digest"),
        (archive(&manifest("nonesuch.json"), &config), "nonesuch.json"),
        (archive("[]", &config), "0 images"),
        (archive("{", &config), "manifest.json"),
        (archive(&manifest(&config_name), &config)[..1300].to_vec(), "truncated"),
    ] {
        fs::write(&path, broken).unwrap();
        let output = store.run(&["import", &image]);
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && message.contains(about), "{about}: {message}");
        assert!(store.list().is_empty());
    }
}

/// Changes one byte of a file and keeps its length.
fn flip(path: &Path) {
    let mut contents = fs::read(path).unwrap();
    let middle = contents.len() / 2;
    contents[middle] ^= 1;
    fs::write(path, contents).unwrap();
}

#[test]
fn nothing_stays_of_an_image_that_is_wrong_in_one_place() {
    type Break = fn(&Layout<'_>, &Value, &[Layer]);
    let table: [(&str, Break); 6] = [
        ("manifest", |layout, manifest, _| flip(&layout.blob_path(manifest["digest"].as_str().unwrap()))),
        ("configuration", |layout, manifest, _| {
            let path = layout.blob_path(manifest["digest"].as_str().unwrap());
            let manifest: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            flip(&layout.blob_path(manifest["config"]["digest"].as_str().unwrap()));
        }),
        ("layer", |layout, _, layers| flip(&layout.blob_path(&digest(&layers[2].blob)))),
        ("length of a layer", |layout, _, layers| {
            let path = layout.blob_path(&digest(&layers[1].blob));
            fs::write(&path, [fs::read(&path).unwrap(), b"\0".to_vec()].concat()).unwrap();
        }),
        ("missing layer", |layout, _, layers| {
            fs::remove_file(layout.blob_path(&digest(&layers[1].blob))).unwrap();
        }),
        ("layer that is no file", |layout, _, layers| {
            let path = layout.blob_path(&digest(&layers[1].blob));
            fs::remove_file(&path).unwrap();
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        }),
    ];
    for (what, damage) in table {
        let store = Store::new();
        let path = store.path("image");
        let (layout, layers) = (Layout(&path), layers());
        let manifest = layout.image(&layers, |_, _| {});
        layout.index(std::slice::from_ref(&manifest));
        damage(&layout, &manifest, &layers);
        let output = store.run(&["import", &reference("oci", &path)]);
        assert!(!output.status.success(), "{what}");
        assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1, "{what}");
        assert!(store.list().is_empty(), "{what}");
        store.assert_clean();
    }
}

#[test]
fn a_failed_import_keeps_what_was_there_before() {
    let store = Store::new();
    let path = store.path("image");
    let (layout, layers) = (Layout(&path), layers());
    layout.index(&[layout.image(&layers[..1], |_, _| {})]);
    store.ok(&["import", &reference("oci", &path)]);
    layout.index(&[layout.image(&layers, |_, _| {})]);
    flip(&layout.blob_path(&digest(&layers[2].blob)));
    let message = store.fails(&["import", &reference("oci", &path)], 1);
    assert!(message.contains("digest") || message.contains("checksum"), "{message}");
    assert_eq!(store.list(), chain_ids(&layers[..1]));
}

#[test]
fn a_wrong_digest_in_the_documents() {
    type Adjust = fn(&mut Value, &mut Value);
    let zeros = || format!("sha256:{}", "0".repeat(64));
    let table: [(&str, i32, Adjust); 8] = [
        ("uncompressed digest", 1, |config, _| {
            config["rootfs"]["diff_ids"][1] = json!(format!("sha256:{}", "0".repeat(64)));
        }),
        ("fewer diff ids", 1, |config, _| drop(config["rootfs"]["diff_ids"].as_array_mut().unwrap().pop())),
        ("size", 1, |_, manifest| manifest["layers"][0]["size"] = json!(1)),
        ("negative size", 1, |_, manifest| manifest["layers"][0]["size"] = json!(-1)),
        ("other algorithm", 1, |_, manifest| manifest["layers"][0]["digest"] = json!("md5:00")),
        ("path as digest", 1, |_, manifest| {
            manifest["layers"][0]["digest"] = json!("sha256:../../../../etc/passwd");
        }),
        ("artifact", 3, |_, manifest| {
            manifest["config"]["mediaType"] = json!("application/vnd.example.chart+json");
        }),
        ("encrypted", 3, |_, manifest| {
            manifest["layers"][0]["mediaType"] =
                json!("application/vnd.oci.image.layer.v1.tar+gzip+encrypted");
        }),
    ];
    for (what, status, adjust) in table {
        let store = Store::new();
        let path = store.path("image");
        let layout = Layout(&path);
        layout.index(&[layout.image(&layers(), adjust)]);
        let message = store.fails(&["import", &reference("oci", &path)], status);
        assert!(store.list().is_empty(), "{what}: {message}");
        store.assert_clean();
    }
    // The index's own word about the manifest.
    let store = Store::new();
    let path = store.path("image");
    let layout = Layout(&path);
    let mut manifest = layout.image(&layers(), |_, _| {});
    manifest["digest"] = json!(zeros());
    layout.index(&[manifest]);
    store.fails(&["import", &reference("oci", &path)], 1);
}

#[test]
fn documents_of_any_size_are_not_read() {
    let store = Store::new();
    let path = layout(&store);
    let index = fs::read_to_string(path.join("index.json")).unwrap();
    fs::write(path.join("index.json"), index + &" ".repeat(5 << 20)).unwrap();
    let message = store.fails(&["import", &reference("oci", &path)], 1);
    assert!(message.contains("more than"), "{message}");
}
