//! What the client makes of what others answer.

use std::io::Read;

use graphdriver_core::{
    CreateOptions, ErrorKind, IdMaps, LayerApplyOptions, LayerId, LayerKind, MountOptions, Quota,
};

use crate::fake::Fake;

fn id(text: &str) -> LayerId {
    text.parse().unwrap()
}

const THERE: (&str, &str) = ("/GraphDriver.Exists", r#"200 {"Exists":true}"#);
const MISSING: (&str, &str) = ("/GraphDriver.Exists", r#"200 {"Exists":false}"#);

#[test]
fn opening() {
    let fake = Fake::new(&[]);
    let graph = fake.open(&["plugin.timeout=9", "plugin.overlay.sync=none", "size=1G"]).unwrap();
    assert_eq!(graph.name(), "plugin:fake");
    assert!(!graph.capabilities().exact_diffs, "an old plugin has no capabilities");
    let asked = fake.asked.lock().unwrap().clone();
    let init = r#"/GraphDriver.Init {"Home":"/docker/fake","Opts":["overlay.sync=none","size=1G"],"UIDMaps":[],"GIDMaps":[]}"#;
    assert_eq!(asked[1], init);

    let exact =
        Fake::new(&[("/GraphDriver.Capabilities", r#"200 {"Capabilities":{"ReproducesExactDiffs":true}}"#)]);
    assert!(exact.open(&[]).unwrap().capabilities().exact_diffs);
    let volumes = Fake::new(&[("/Plugin.Activate", r#"200 {"Implements":["VolumeDriver"]}"#)]);
    assert_eq!(volumes.open(&[]).unwrap_err().kind(), ErrorKind::NotSupported);
    let failing = Fake::new(&[("/GraphDriver.Init", r#"500 {"Err":"no disk"}"#)]);
    assert!(failing.open(&[]).unwrap_err().to_string().contains("no disk"));
}

/// What a plugin says to which call.
type Answers = [(&'static str, &'static str)];

#[test]
fn every_way_to_say_that_something_failed() {
    let table: [(&Answers, &str, ErrorKind); 7] = [
        (
            &[("/GraphDriver.Get", r#"500 {"Err":"no space on the moon"}"#), THERE],
            "no space on the moon",
            ErrorKind::Command,
        ),
        (
            &[("/GraphDriver.Get", r#"200 {"Dir":"/x","Err":"half done"}"#), THERE],
            "half done",
            ErrorKind::Command,
        ),
        (&[("/GraphDriver.Get", "500 plain text\n"), THERE], "plain text", ErrorKind::Command),
        (&[("/GraphDriver.Get", "500 "), THERE], "HTTP status 500", ErrorKind::Command),
        (
            &[("/GraphDriver.Get", r#"500 {"Err":"what layer?"}"#), MISSING],
            "what layer?",
            ErrorKind::LayerUnknown,
        ),
        (&[("/GraphDriver.Get", "200 no JSON"), THERE], "makes no sense", ErrorKind::Io),
        (&[("/GraphDriver.Get", "raw SMTP ready\r\n\r\n"), THERE], "HTTP/1.1", ErrorKind::Io),
    ];
    for (answers, text, kind) in table {
        let fake = Fake::new(answers.to_vec().leak());
        let error = fake.open(&[]).unwrap().mount(&id("layer"), &MountOptions::default()).unwrap_err();
        assert_eq!(error.kind(), kind, "{}", error.report());
        let report = error.report().to_string();
        assert!(
            report.contains(text) && report.contains("plugin:fake") && report.contains("layer layer"),
            "{report}"
        );
    }
}

#[test]
fn what_others_do_not_promise_is_asked_first() {
    let there = Fake::new(&[THERE, ("/GraphDriver.Create", "200 {}"), ("/GraphDriver.Remove", "200 {}")]);
    let graph = there.open(&[]).unwrap();
    let exists = graph.create(&id("layer"), &CreateOptions::default()).unwrap_err();
    assert_eq!((exists.kind(), there.count("/GraphDriver.Create")), (ErrorKind::LayerExists, 0));
    let missing = Fake::new(&[MISSING, ("/GraphDriver.Create", "200 {}"), ("/GraphDriver.Remove", "200 {}")]);
    let graph = missing.open(&[]).unwrap();
    let parent = graph.create(&id("layer"), &CreateOptions::on(&id("parent"))).unwrap_err();
    assert_eq!((parent.kind(), missing.count("/GraphDriver.Create")), (ErrorKind::ParentUnknown, 0));
    assert_eq!(graph.remove(&id("layer")).unwrap_err().kind(), ErrorKind::LayerUnknown);
    let quota = Quota { bytes: Some(7), inodes: None };
    let options = CreateOptions { kind: LayerKind::ReadWrite, quota, ..CreateOptions::default() };
    graph.create(&id("layer"), &options).unwrap();
    let asked = missing.asked.lock().unwrap().last().unwrap().clone();
    assert!(
        asked.starts_with("/GraphDriver.CreateReadWrite") && asked.contains(r#""StorageOpt":{"size":"7"}"#),
        "{asked}"
    );
}

#[test]
fn a_mounted_layer_stays() {
    let fake =
        Fake::new(&[THERE, ("/GraphDriver.Get", r#"200 {"Dir":"/mnt"}"#), ("/GraphDriver.Remove", "200 {}")]);
    let graph = fake.open(&[]).unwrap();
    let mount = graph.mount(&id("layer"), &MountOptions::default()).unwrap();
    assert_eq!(mount.path(), std::path::Path::new("/mnt"));
    assert_eq!(graph.remove(&id("layer")).unwrap_err().kind(), ErrorKind::LayerInUse);
    // It would unmount what is in use.
    graph.cleanup().unwrap();
    assert_eq!(fake.count("/GraphDriver.Cleanup"), 0);
    mount.unmount().unwrap();
    assert_eq!(fake.count("/GraphDriver.Put"), 1);
    graph.remove(&id("layer")).unwrap();
    // References that nobody gave back end with the driver.
    graph.driver().get(&id("layer"), &MountOptions::default()).unwrap();
    drop(graph);
    assert_eq!(fake.count("/GraphDriver.Put"), 2);
}

#[test]
fn diffs() {
    let whole = Fake::new(&[(
        "/GraphDriver.Diff",
        "raw HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    )]);
    let read = |fake: &Fake| {
        let graph = fake.open(&[]).unwrap();
        let mut text = String::new();
        graph.diff(&id("layer"), None, &IdMaps::default()).unwrap().read_to_string(&mut text).map(|_| text)
    };
    assert_eq!(read(&whole).unwrap(), "abc");
    let cut = Fake::new(&[(
        "/GraphDriver.Diff",
        "raw HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    )]);
    assert!(read(&cut).is_err(), "a diff that was broken off is none");
    let short = Fake::new(&[("/GraphDriver.Diff", "raw HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")]);
    assert!(read(&short).is_err());
    // The helper library puts empty ones before the real ones.
    let changes = Fake::new(&[(
        "/GraphDriver.Changes",
        r#"200 {"Changes":[{"Path":"","Kind":0},{"Path":"","Kind":0},{"Path":"/b","Kind":2},{"Path":"/a","Kind":1}]}"#,
    )]);
    let changes = changes.open(&[]).unwrap().changes(&id("layer"), None).unwrap();
    assert_eq!(changes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["A /a", "D /b"]);
}

#[test]
fn nothing_is_sent_twice() {
    let fake = Fake::new(&[THERE, ("/GraphDriver.ApplyDiff", "raw "), ("/GraphDriver.Create", "raw ")]);
    let graph = fake.open(&[]).unwrap();
    let archive = vec![0; 10 << 20];
    let applied = graph.apply(&id("layer"), &mut &archive[..], &LayerApplyOptions::default());
    assert_eq!(applied.unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(fake.count("/GraphDriver.ApplyDiff"), 1);
}

#[test]
fn an_early_answer_is_heard() {
    let fake = Fake::new(&[THERE, ("/GraphDriver.ApplyDiff", r#"500 {"Err":"this is no archive"}"#)]);
    let graph = fake.open(&[]).unwrap();
    let mut endless = std::io::repeat(0);
    let error = graph.apply(&id("layer"), &mut endless, &LayerApplyOptions::default()).unwrap_err();
    assert!(error.report().to_string().contains("this is no archive"), "{}", error.report());
}

#[test]
fn an_answer_that_is_cut_short() {
    // More is announced than comes.
    let cut = Fake::new(&[("/GraphDriver.Status", "raw HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")]);
    assert_eq!(cut.open(&[]).unwrap().status().unwrap_err().kind(), ErrorKind::Io);
}
