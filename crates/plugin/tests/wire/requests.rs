//! What a connection makes of bytes. The property tests and the fuzzer (`tests/fuzz`) run this.

use std::io::{self, BufRead, BufReader};

use graphdriver_plugin::wire::{Body, Call, HeadError, Refusal, RequestHead, read_head};

const MAX_CALL_BYTES: u64 = 1000;

/// The calls in `source`, one after the other. After the first that is refused there is no telling where the next one begins.
pub(crate) fn requests(mut source: impl BufRead) -> Vec<Result<Call, Refusal>> {
    let mut requests = Vec::new();
    loop {
        let head = match read_head(&mut source, RequestHead::parse) {
            Ok(head) => head,
            Err(HeadError::Ended) => return requests,
            Err(HeadError::Refused(refusal)) => {
                requests.push(Err(refusal));
                return requests;
            }
            Err(HeadError::Io(error)) => {
                requests.push(Err(Refusal::bad_request(error.to_string())));
                return requests;
            }
        };
        let mut body = Body::new(&mut source, head.framing);
        requests.push(Call::read(&head, &mut body, MAX_CALL_BYTES));
        let is_whole = io::copy(&mut body, &mut io::sink()).is_ok() && body.is_at_end();
        if !is_whole || requests.last().is_some_and(Result::is_err) {
            return requests;
        }
    }
}

/// Whatever comes, it is taken or refused, and in the same way in whatever pieces it comes.
pub(crate) fn check(bytes: &[u8]) {
    let whole = requests(bytes);
    for refusal in whole.iter().filter_map(|request| request.as_ref().err()) {
        assert!((400..=505).contains(&refusal.status) && !refusal.text.is_empty(), "{refusal:?}");
    }
    for size in [1, 10] {
        assert_eq!(requests(BufReader::with_capacity(size, bytes)), whole, "in pieces of {size}");
    }
}
