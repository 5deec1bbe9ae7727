//! Requests that no client should send. Each has its answer, and the server goes on.

use std::io::{Read, Write};
use std::time::Duration;

use graphdriver_plugin::Limits;
use serde_json::json;

use crate::support::{Answer, Serving, request};

#[test]
fn table() {
    let serving = Serving::initialized();
    let post = |rest: &str| format!("POST /GraphDriver.Status HTTP/1.1\r\n{rest}");
    let table: Vec<(&str, Vec<u8>, u16)> = vec![
        ("no HTTP", b"\x16\x03\x01\x02\x00\x01\r\n\r\n".to_vec(), 400),
        ("no version", b"POST /GraphDriver.Status\r\n\r\n".to_vec(), 400),
        ("old version", b"POST /GraphDriver.Status HTTP/1.0\r\n\r\n".to_vec(), 505),
        ("GET", b"GET /GraphDriver.Status HTTP/1.1\r\n\r\n".to_vec(), 405),
        ("header without colon", post("nonsense\r\n\r\n").into(), 400),
        ("half a head", post("Host: x").into(), 400),
        ("two lengths", post("Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}").into(), 400),
        ("length and chunks", post("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}").into(), 400),
        ("negative length", post("Content-Length: -1\r\n\r\n").into(), 400),
        ("other encoding", post("Transfer-Encoding: gzip\r\n\r\n").into(), 501),
        ("other expectation", post("Expect: tea\r\n\r\n").into(), 417),
        ("long header", post(&format!("X: {}\r\n\r\n", "x".repeat(20_000))).into(), 431),
        ("many headers", post(&format!("{}\r\n", "a: b\r\n".repeat(100))).into(), 431),
        ("half a body", post("Content-Length: 9\r\n\r\n{}").into(), 400),
        ("bad chunk", post("Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n").into(), 400),
        ("half a chunk", post("Transfer-Encoding: chunked\r\n\r\n9\r\n{}").into(), 400),
        ("long call", request("/GraphDriver.Init", &vec![b' '; 2 << 20]), 413),
        ("unknown call", request("/GraphDriver.Nothing", b"{}"), 404),
        ("unknown protocol", request("/VolumeDriver.Create", b"{}"), 404),
        ("root", request("/", b""), 404),
        ("no JSON", request("/GraphDriver.Get", b"ID=1"), 400),
        ("no text", request("/GraphDriver.Get", b"{\"ID\":\"\xff\xfe\"}"), 400),
        ("no id", request("/GraphDriver.Get", b"{}"), 400),
        ("wrong type", request("/GraphDriver.Get", b"{\"ID\":[1]}"), 400),
        ("path for an id", request("/GraphDriver.Get", b"{\"ID\":\"../../../etc\"}"), 400),
        ("path for a parent", request("/GraphDriver.Create", b"{\"ID\":\"a\",\"Parent\":\"/etc\"}"), 400),
        ("no id in a query", request("/GraphDriver.ApplyDiff", b""), 400),
        ("path in a query", request("/GraphDriver.ApplyDiff?id=..%2F..%2Fetc", b""), 400),
        ("relative home", request("/GraphDriver.Init", b"{\"Home\":\"home\"}"), 500),
        ("no home", request("/GraphDriver.Init", b"{}"), 500),
        ("no option", request("/GraphDriver.Init", b"{\"Home\":\"/nowhere\",\"Opts\":[\"x\"]}"), 500),
    ];
    for (what, bytes, status) in table {
        let answer = Answer::parse(&serving.send(&bytes));
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        answer.error();
        // Neither the server nor what it was told before has suffered.
        assert_eq!(
            serving.call("GraphDriver.Exists", &json!({"ID": "a"})),
            json!({"Exists": false}),
            "{what}"
        );
    }
    assert!(serving.is_running());
}

#[test]
fn connections_that_say_nothing() {
    let serving = Serving::initialized();
    assert!(serving.send(b"").is_empty());
    let silent: Vec<_> = (0..50).map(|_| serving.connect()).collect();
    assert_eq!(serving.call("GraphDriver.Exists", &json!({"ID": "a"})), json!({"Exists": false}));
    drop(silent);
    assert!(serving.is_running());
}

#[test]
fn slow_and_idle_clients_are_let_go() {
    let short = Duration::from_millis(200);
    let serving = Serving::with_limits(Limits { request_time: short, ..Limits::default() });
    let mut slow = serving.connect();
    slow.write_all(b"POST /Plugin.Activate HTT").unwrap();
    let mut answer = Vec::new();
    slow.read_to_end(&mut answer).unwrap();
    assert_eq!(Answer::parse(&answer).status, 408);
    let serving = Serving::with_limits(Limits { idle_time: short, ..Limits::default() });
    assert_eq!(serving.connect().read(&mut [0]).unwrap(), 0);
}

#[test]
fn more_connections_than_allowed_wait() {
    let limits = Limits { connections: 1, idle_time: Duration::from_secs(1), ..Limits::default() };
    let serving = Serving::with_limits(limits);
    let _first = serving.connect();
    // Answered once the first has been idle for too long.
    let answer = serving.call("Plugin.Activate", &json!({}));
    assert_eq!(answer["Implements"][0], "GraphDriver");
}
