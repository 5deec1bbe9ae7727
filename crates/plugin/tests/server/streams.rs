//! Archives on their way in and out, and several requests on one connection.

use std::io::{Read, Write};

use serde_json::json;

use crate::support::{Answer, Serving, archive, request};

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

const APPLY: &[u8] = b"POST /GraphDriver.ApplyDiff?id=slow&parent= HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";

#[test]
fn a_slow_archive_blocks_nobody() {
    let serving = Serving::initialized();
    serving.call("GraphDriver.Create", &json!({"ID": "slow"}));
    let bytes = archive("file", &[7; 5000]);
    let mut slow = serving.connect();
    slow.write_all(APPLY).unwrap();
    slow.write_all(&chunk(&bytes[..700])).unwrap();
    serving.call("GraphDriver.Create", &json!({"ID": "quick"}));
    assert_eq!(serving.apply("quick", &archive("file", b"1")).status, 200);
    slow.write_all(&chunk(&bytes[700..])).unwrap();
    slow.write_all(b"0\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    slow.read_to_end(&mut answer).unwrap();
    assert_eq!(Answer::parse(&answer).status, 200);
    assert_eq!(serving.call("GraphDriver.DiffSize", &json!({"ID": "slow"})), json!({"Size": 5000}));
}

/// Docker sends again when a connection breaks, and what it sends is the rest of what it had.
#[test]
fn the_rest_of_an_archive_is_none() {
    let serving = Serving::initialized();
    let layer = json!({"ID": "slow"});
    serving.call("GraphDriver.Create", &layer);
    let bytes = archive("file", &[7; 5000]);
    let mut broken = serving.connect();
    broken.write_all(APPLY).unwrap();
    broken.write_all(&chunk(&bytes[..700])).unwrap();
    broken.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    broken.read_to_end(&mut answer).unwrap();
    assert_eq!(Answer::parse(&answer).status, 500);
    // It begins with an entry, and would pass.
    let serving = serving.restart();
    let again = serving.apply("slow", &archive("other", b"1"));
    assert!(again.status == 500 && again.error().0.contains("sent before"), "{again:?}");
    serving.call("GraphDriver.Remove", &layer);
    serving.call("GraphDriver.Create", &layer);
    let empty = serving.apply("slow", b"");
    assert!(empty.status == 500 && empty.error().0.contains("empty"), "{empty:?}");
    serving.call("GraphDriver.Remove", &layer);
    serving.call("GraphDriver.Create", &layer);
    assert_eq!(serving.apply("slow", &bytes).status, 200);
}

#[test]
fn an_archive_that_is_refused_is_read_no_further_than_needed() {
    let serving = Serving::initialized();
    let answer = serving.apply("missing", &vec![1; 4 << 20]);
    assert_eq!((answer.status, &*answer.error().1), (500, "LayerUnknown"), "{answer:?}");
}

#[test]
fn requests_on_one_connection() {
    let serving = Serving::initialized();
    let mut stream = serving.connect();
    let first = b"POST /GraphDriver.Exists HTTP/1.1\r\nContent-Length: 10\r\n\r\n{\"ID\":\"a\"}".to_vec();
    let chunked = b"POST /GraphDriver.Exists HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\na\r\n{\"ID\":\"a\"}\r\n0\r\n\r\n".to_vec();
    let last = request("/GraphDriver.Exists", b"{\"ID\":\"a\"}");
    stream.write_all(&[first, chunked, last].concat()).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("{\"Exists\":false}").count(), 3, "{answers}");
}

#[test]
fn a_body_that_waits_to_be_asked_for() {
    let serving = Serving::initialized();
    let mut stream = serving.connect();
    stream.write_all(b"POST /GraphDriver.Exists HTTP/1.1\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 10\r\n\r\n").unwrap();
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{\"ID\":\"a\"}").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(Answer::parse(&answer).status, 200);
}
