//! What calls do, as Docker makes them.

use serde_json::json;

use crate::support::{Answer, Serving, archive};

#[test]
fn before_docker_has_spoken() {
    let serving = Serving::new();
    let implements = json!({"Implements": ["GraphDriver", "LayerInventory"]});
    assert_eq!(
        Answer::parse(&serving.send(b"POST /Plugin.Activate HTTP/1.1\r\nConnection: close\r\n\r\n")).status,
        200
    );
    assert_eq!(serving.call("Plugin.Activate", &json!(null)), implements);
    let (text, kind) = serving.refused("GraphDriver.Status", &json!({}));
    assert!(text.contains("not initialized"), "{text}");
    assert_eq!(kind, "InvalidArgument");
    serving.init();
    serving.init();
    let status = serving.call("GraphDriver.Status", &json!({}));
    assert!(status["Status"].as_array().is_some_and(|status| !status.is_empty()), "{status}");
    let capabilities = json!({"Capabilities": {"ReproducesExactDiffs": false}});
    assert_eq!(serving.call("GraphDriver.Capabilities", &json!({})), capabilities);
}

#[test]
fn a_layer_s_life() {
    let serving = Serving::initialized();
    let none = json!({"Err": ""});
    assert_eq!(serving.call("GraphDriver.Create", &json!({"ID": "base"})), none);
    let applied: serde_json::Value =
        serde_json::from_slice(&serving.apply("base", &archive("file", b"12345")).body).unwrap();
    assert_eq!(applied, json!({"Size": 5, "Entries": 1}));
    let request = json!({"ID": "top", "Parent": "base", "MountLabel": "", "StorageOpt": null});
    assert_eq!(serving.call("GraphDriver.CreateReadWrite", &request), none);
    let dir = serving.call("GraphDriver.Get", &json!({"ID": "top", "MountLabel": ""}))["Dir"].clone();
    let dir = std::path::PathBuf::from(dir.as_str().unwrap());
    assert!(dir.starts_with(serving.dir.path().join("home/vfs")), "{dir:?}");
    assert_eq!(std::fs::read(dir.join("file")).unwrap(), b"12345");
    std::fs::write(dir.join("new"), "123").unwrap();
    let pair = json!({"ID": "top", "Parent": "base"});
    assert_eq!(serving.call("GraphDriver.Changes", &pair), json!({"Changes": [{"Path": "/new", "Kind": 1}]}));
    assert_eq!(serving.call("GraphDriver.DiffSize", &pair), json!({"Size": 3}));
    let diff = serving.request("/GraphDriver.Diff", pair.to_string().as_bytes());
    assert!(diff.head.contains("Transfer-Encoding: chunked"), "{}", diff.head);
    assert!(diff.body.ends_with(b"\r\n0\r\n\r\n"));
    assert_eq!(serving.call("GraphDriver.Put", &json!({"ID": "top"})), none);
    assert_eq!(serving.call("LayerInventory.Layers", &json!({})), json!({"Layers": ["base", "top"]}));
    assert_eq!(serving.call("GraphDriver.Remove", &json!({"ID": "top"})), none);
    assert_eq!(serving.call("GraphDriver.Exists", &json!({"ID": "top"})), json!({"Exists": false}));
    assert_eq!(serving.call("GraphDriver.Cleanup", &json!({})), none);
}

/// Docker removes and puts what is not there, and expects no error.
#[test]
fn what_docker_expects_to_be_passed_over() {
    let serving = Serving::initialized();
    let layer = |strict: bool| json!({"ID": "layer", "Strict": strict});
    for method in ["GraphDriver.Remove", "GraphDriver.Put"] {
        serving.call(method, &layer(false));
        assert_eq!(serving.refused(method, &layer(true)).1, "LayerUnknown", "{method}");
    }
    serving.call("GraphDriver.Create", &layer(false));
    serving.call("GraphDriver.Put", &layer(false));
    assert_eq!(serving.refused("GraphDriver.Put", &layer(true)).1, "InvalidArgument");
    // Mounted three times by a daemon that was killed.
    for _ in 0..3 {
        serving.call("GraphDriver.Get", &layer(false));
    }
    let serving = serving.restart();
    assert_eq!(serving.refused("GraphDriver.Remove", &layer(true)).1, "LayerInUse");
    serving.call("GraphDriver.Remove", &layer(false));
    assert_eq!(serving.call("GraphDriver.Exists", &layer(false)), json!({"Exists": false}));
}

#[test]
fn gets_and_puts_are_counted() {
    let serving = Serving::initialized();
    let layer = json!({"ID": "layer"});
    let strict = json!({"ID": "layer", "Strict": true});
    serving.call("GraphDriver.Create", &layer);
    serving.call("GraphDriver.Get", &layer);
    serving.call("GraphDriver.Get", &layer);
    serving.call("GraphDriver.Put", &strict);
    assert_eq!(serving.refused("GraphDriver.Remove", &strict).1, "LayerInUse");
    serving.call("GraphDriver.Put", &strict);
    assert_eq!(serving.refused("GraphDriver.Put", &strict).1, "InvalidArgument");
    // Cleanup gives back what Docker has, when it ends.
    serving.call("GraphDriver.Get", &layer);
    serving.call("GraphDriver.Cleanup", &json!({}));
    serving.call("GraphDriver.Remove", &strict);
}

#[test]
fn errors_are_for_people_and_for_docker() {
    let serving = Serving::initialized();
    serving.call("GraphDriver.Create", &json!({"ID": "layer"}));
    let (text, kind) = serving.refused("GraphDriver.Create", &json!({"ID": "layer"}));
    assert!(
        text.contains("vfs") && text.contains("layer layer") && text.contains("exists already"),
        "{text}"
    );
    assert_eq!(kind, "LayerExists");
    assert_eq!(serving.refused("GraphDriver.Create", &json!({"ID": "a", "Parent": "b"})).1, "ParentUnknown");
    assert_eq!(serving.refused("GraphDriver.Get", &json!({"ID": "a"})).1, "LayerUnknown");
    assert_eq!(serving.refused("GraphDriver.Diff", &json!({"ID": "a"})).1, "LayerUnknown");
    let options = |option: serde_json::Value| json!({"ID": "limited", "StorageOpt": option});
    let (text, kind) = serving.refused("GraphDriver.CreateReadWrite", &options(json!({"sise": "1G"})));
    assert!(kind == "InvalidArgument" && text.contains("known options are: size, inodes"), "{text}");
    assert_eq!(
        serving.refused("GraphDriver.CreateReadWrite", &options(json!({"size": "much"}))).1,
        "InvalidArgument"
    );
    assert_eq!(serving.call("GraphDriver.Exists", &json!({"ID": "limited"})), json!({"Exists": false}));
}

#[test]
fn another_process_takes_over() {
    let serving = Serving::initialized();
    serving.call("GraphDriver.Create", &json!({"ID": "layer"}));
    let serving = serving.restart();
    assert_eq!(serving.call("GraphDriver.Exists", &json!({"ID": "layer"})), json!({"Exists": true}));
    // Another home is another store.
    let home = serving.dir.path().join("other");
    serving.call("GraphDriver.Init", &json!({"Home": home, "UIDMaps": [], "GIDMaps": []}));
    assert_eq!(serving.call("GraphDriver.Exists", &json!({"ID": "layer"})), json!({"Exists": false}));
    serving.init();
    assert_eq!(serving.call("GraphDriver.Exists", &json!({"ID": "layer"})), json!({"Exists": true}));
}
