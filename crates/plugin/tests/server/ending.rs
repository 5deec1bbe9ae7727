//! How a server ends.

use std::io::{Read, Write};
use std::time::Duration;

use graphdriver_plugin::Limits;
use serde_json::json;

use crate::support::{Answer, Serving, archive};

#[test]
fn nothing_stays() {
    let mut serving = Serving::initialized();
    let _idle = serving.connect();
    serving.stop();
    assert!(!serving.socket().exists());
}

#[test]
fn what_is_under_way_ends_first() {
    let mut serving =
        Serving::with_limits(Limits { grace_time: Duration::from_secs(60), ..Limits::default() });
    serving.init();
    serving.call("GraphDriver.Create", &json!({"ID": "a"}));
    let bytes = archive("file", b"1");
    let mut stream = serving.connect();
    let head = "POST /GraphDriver.ApplyDiff?id=a HTTP/1.1\r\nContent-Length";
    stream.write_all(format!("{head}: {}\r\n\r\n", bytes.len()).as_bytes()).unwrap();
    stream.write_all(&bytes[..100]).unwrap();
    while !serving.dir.path().join("run/filling/a").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::scope(|scope| {
        scope.spawn(|| serving.stop());
        stream.write_all(&bytes[100..]).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(Answer::parse(&answer).status, 200);
    });
}

#[test]
fn what_does_not_end_is_cut() {
    let mut serving =
        Serving::with_limits(Limits { grace_time: Duration::from_millis(100), ..Limits::default() });
    serving.init();
    serving.call("GraphDriver.Create", &json!({"ID": "a"}));
    let mut stream = serving.connect();
    stream
        .write_all(b"POST /GraphDriver.ApplyDiff?id=a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n200\r\n")
        .unwrap();
    // It would last for ever.
    serving.stop();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 200"));
}
