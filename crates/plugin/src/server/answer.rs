//! What goes back for a call.

use std::io::{self, Read, Write};

use graphdriver_core::{Error, LayerDiff};
use serde::Serialize;

use crate::wire::{CONTENT_TYPE, ChunkedWriter, ErrorReply, Refusal, name_of};

/// How much of an archive is read before anything of it is sent; what fails until then can still be told.
const BUFFER_BYTES: usize = 128 << 10;

pub(crate) enum Answer {
    Json { status: u16, body: Vec<u8> },
    Archive(Box<LayerDiff>),
}

impl Answer {
    pub(crate) fn json(reply: &impl Serialize) -> Self {
        match serde_json::to_vec(reply) {
            Ok(body) => Self::Json { status: 200, body },
            Err(error) => Self::error(500, &format!("the answer cannot be written: {error}"), ""),
        }
    }

    pub(crate) fn failure(error: &Error) -> Self {
        let text: String = error.report().to_string();
        Self::error(500, &text, name_of(error.kind()))
    }

    pub(crate) fn refusal(refusal: &Refusal) -> Self {
        Self::error(refusal.status, &refusal.text, "")
    }

    fn error(status: u16, text: &str, kind: &str) -> Self {
        let reply = ErrorReply { err: text.to_owned(), kind: kind.to_owned() };
        // Two texts can always be written.
        Self::Json { status, body: serde_json::to_vec(&reply).unwrap_or_default() }
    }

    /// Sends it. After an error, or `Ok(false)`, the connection must be broken off: the other end must not take what it got for all.
    pub(crate) fn send(self, sink: &mut impl Write, keep_alive: bool) -> io::Result<bool> {
        match self {
            Self::Json { status, body } => {
                send_json(sink, status, &body, keep_alive)?;
                Ok(true)
            }
            Self::Archive(diff) => send_archive(sink, *diff, keep_alive),
        }
    }
}

fn send_json(sink: &mut impl Write, status: u16, body: &[u8], keep_alive: bool) -> io::Result<()> {
    let head = head(status, keep_alive);
    let mut message = format!("{head}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    message.extend_from_slice(body);
    sink.write_all(&message)
}

fn send_archive(sink: &mut impl Write, mut diff: LayerDiff, keep_alive: bool) -> io::Result<bool> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut filled = match fill(&mut diff, &mut buffer) {
        Ok(filled) => filled,
        Err(error) => {
            let error = error.downcast().unwrap_or_else(|error| Error::io("read", "layer", error));
            let Answer::Json { status, body } = Answer::failure(&error) else {
                return Ok(false);
            };
            send_json(sink, status, &body, keep_alive)?;
            return Ok(true);
        }
    };
    let mut start = head(200, keep_alive);
    start.push_str("Transfer-Encoding: chunked\r\n\r\n");
    sink.write_all(start.as_bytes())?;
    let mut chunks = ChunkedWriter::new(sink);
    while filled > 0 {
        chunks.write_all(&buffer[..filled])?;
        filled = match fill(&mut diff, &mut buffer) {
            Ok(filled) => filled,
            Err(error) => {
                tracing::error!(%error, "a diff is broken off");
                return Ok(false);
            }
        };
    }
    if let Err(error) = diff.finish() {
        tracing::warn!(error = %error.report(), "a layer stays mounted after its diff");
    }
    chunks.finish()?;
    Ok(true)
}

/// Reads until the buffer is full or there is no more.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn head(status: u16, keep_alive: bool) -> String {
    let close = if keep_alive { "" } else { "Connection: close\r\n" };
    let allow = if status == 405 { "Allow: POST\r\n" } else { "" };
    format!("HTTP/1.1 {status} {}\r\nContent-Type: {CONTENT_TYPE}\r\n{allow}{close}", reason(status))
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(answer: Answer) -> (bool, String) {
        let mut bytes = Vec::new();
        let whole = answer.send(&mut bytes, true).unwrap();
        (whole, String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Gives `bytes`, and then fails.
    struct Failing(usize);

    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::Error::other("disk on fire"));
            }
            let read = self.0.min(buffer.len());
            self.0 -= read;
            Ok(read)
        }
    }

    #[test]
    fn an_archive_that_fails_at_once_is_an_error_and_later_one_without_end() {
        let (whole, text) = sent(Answer::Archive(Box::new(LayerDiff::new(Failing(100)))));
        assert!(whole && text.starts_with("HTTP/1.1 500 ") && text.contains("disk on fire"), "{text}");
        let (whole, text) = sent(Answer::Archive(Box::new(LayerDiff::new(Failing(BUFFER_BYTES + 100)))));
        assert!(!whole && text.starts_with("HTTP/1.1 200 OK"), "{text}");
        assert!(!text.ends_with("0\r\n\r\n"));
    }

    #[test]
    fn an_archive_ends() {
        let (whole, text) = sent(Answer::Archive(Box::new(LayerDiff::new(&b"tar"[..]))));
        assert!(whole && text.ends_with("\r\n\r\n3\r\ntar\r\n0\r\n\r\n"), "{text}");
    }
}
