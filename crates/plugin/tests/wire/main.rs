//! The decoder of requests, on bytes that nobody has thought of.

#![allow(clippy::unwrap_used, reason = "tests")]

mod requests;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use requests::{check, requests};

/// What requests are made of, good and bad.
const PIECES: [&str; 32] = [
    "POST /GraphDriver.Get HTTP/1.1\r\n",
    "POST /GraphDriver.Create HTTP/1.1\r\n",
    "POST /GraphDriver.Init HTTP/1.1\r\n",
    "POST /GraphDriver.ApplyDiff?id=a&parent= HTTP/1.1\r\n",
    "POST /Plugin.Activate HTTP/1.1\r\n",
    "POST /",
    "?id=",
    "%2F",
    " HTTP/1.1\r\n",
    "Content-Length: 10\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: 18446744073709551615\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Expect: 100-continue\r\n",
    "Connection: close\r\n",
    "\r\n",
    "\n",
    "a\r\n{\"ID\":\"a\"}\r\n",
    "1\r\n{\r\n",
    "0\r\n\r\n",
    "ffffffffffffffff\r\n",
    "{\"ID\":\"a\"}",
    "{\"ID\":\"a\",\"Parent\":\"b\"}",
    "\"UIDMaps\":[{\"container_id\":0,\"host_id\":1,\"size\":2}]",
    "\"StorageOpt\":{\"size\":\"1G\"}",
    "{",
    "}",
    ",",
    "null",
    "../",
    "\0",
    "\u{fffd}",
];

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => select(&PIECES[..]).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..8),
    ];
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_bytes_break_it(bytes in vec(any::<u8>(), 0..2000)) {
        check(&bytes);
    }

    #[test]
    fn no_pieces_of_requests_break_it(bytes in pieces()) {
        check(&bytes);
    }

    /// One broken byte in good requests.
    #[test]
    fn no_broken_byte_breaks_it(at in 0..GOOD.len(), byte: u8) {
        let mut bytes = GOOD.as_bytes().to_vec();
        bytes[at] = byte;
        check(&bytes);
    }
}

const GOOD: &str = "POST /GraphDriver.Get HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{\"ID\":\"a\"}\
    POST /GraphDriver.ApplyDiff?id=a&parent=b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntar\r\n0\r\n\r\n\
    POST /GraphDriver.Exists HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\na\r\n{\"ID\":\"a\"}\r\n0\r\n\r\n";

#[test]
fn the_good_ones_are_taken() {
    assert_eq!(requests(GOOD.as_bytes()).iter().filter(|request| request.is_ok()).count(), 3);
    check(GOOD.as_bytes());
}
