//! Heads of requests and responses: which is it, and how long is its body?

use std::io::{self, BufRead};

use super::call::Refusal;

/// Longest head that is read, in bytes. Docker's are some two hundred.
pub const MAX_HEAD_BYTES: usize = 16 << 10;

/// Most header lines of a head.
const MAX_HEADERS: usize = 64;

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After this many bytes.
    Length(u64),
    /// The body is in chunks, the last of which is empty.
    Chunked,
    /// Where the connection ends; responses only.
    UntilClose,
}

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The method, as `POST`.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// How long the body is.
    pub framing: Framing,
    /// Whether the body is sent only when it is asked for (`Expect: 100-continue`).
    pub expects_continue: bool,
    /// Whether another request may follow on the same connection.
    pub keep_alive: bool,
}

/// The head of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status code.
    pub status: u16,
    /// How long the body is.
    pub framing: Framing,
}

impl RequestHead {
    /// The head that `bytes` begin with, and its length; `None` when it is not whole yet.
    ///
    /// # Errors
    /// What is no head of HTTP/1.1, says two things of the length of its body, or has more than 64 header lines.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Refusal> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let length = match request.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(malformed(error)),
        };
        // In a head that is complete, all three are there.
        let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version)
        else {
            return Err(Refusal::bad_request("the request has no method or target"));
        };
        if version != 1 {
            return Err(Refusal::new(505, "only HTTP/1.1 is spoken here"));
        }
        let lines = Lines::read(request.headers)?;
        let head = Self {
            method: method.to_owned(),
            target: target.to_owned(),
            framing: lines.framing()?.unwrap_or(Framing::Length(0)),
            expects_continue: lines.expects_continue,
            keep_alive: !lines.close,
        };
        Ok(Some((head, length)))
    }
}

impl ResponseHead {
    /// The head that `bytes` begin with, and its length; `None` when it is not whole yet.
    ///
    /// # Errors
    /// As [`RequestHead::parse`].
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Refusal> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(malformed(error)),
        };
        let Some(status) = response.code else {
            return Err(Refusal::bad_request("the response has no status"));
        };
        let framing = Lines::read(response.headers)?.framing()?;
        // RFC 9112, section 6.3: these have no body, whatever their headers say.
        let bodiless = status < 200 || status == 204 || status == 304;
        let framing = if bodiless { Framing::Length(0) } else { framing.unwrap_or(Framing::UntilClose) };
        Ok(Some((Self { status, framing }, length)))
    }
}

/// The header lines that matter.
#[derive(Default)]
struct Lines {
    length: Option<u64>,
    chunked: bool,
    expects_continue: bool,
    close: bool,
}

impl Lines {
    fn read(headers: &[httparse::Header<'_>]) -> Result<Self, Refusal> {
        let mut lines = Self::default();
        for header in headers {
            let value = std::str::from_utf8(header.value).unwrap_or_default().trim();
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("content-length") {
                let length = parse_length(value)?;
                if lines.length.is_some_and(|other| other != length) {
                    return Err(Refusal::bad_request("two different lengths of one body"));
                }
                lines.length = Some(length);
            } else if is("transfer-encoding") {
                if lines.chunked || !value.eq_ignore_ascii_case("chunked") {
                    return Err(Refusal::new(501, "of the transfer encodings, only chunked is known here"));
                }
                lines.chunked = true;
            } else if is("expect") {
                if !value.eq_ignore_ascii_case("100-continue") {
                    return Err(Refusal::new(417, "of the expectations, only 100-continue is known here"));
                }
                lines.expects_continue = true;
            } else if is("connection") {
                lines.close |= value.split(',').any(|word| word.trim().eq_ignore_ascii_case("close"));
            }
        }
        Ok(lines)
    }

    /// Who says both leaves open which is meant, and two programs that disagree can be played against each other (RFC 9112, section 11.2).
    fn framing(&self) -> Result<Option<Framing>, Refusal> {
        match (self.length, self.chunked) {
            (Some(_), true) => Err(Refusal::bad_request("both a length and chunks")),
            (Some(length), false) => Ok(Some(Framing::Length(length))),
            (None, true) => Ok(Some(Framing::Chunked)),
            (None, false) => Ok(None),
        }
    }
}

/// Digits only: no sign, no list.
fn parse_length(value: &str) -> Result<u64, Refusal> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let length = value.parse().ok().filter(|_| digits);
    length.ok_or_else(|| Refusal::bad_request(format!("{value:?} is no length")))
}

fn malformed(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::new(431, format!("more than {MAX_HEADERS} headers")),
        httparse::Error::Version => Refusal::new(505, "only HTTP/1.1 is spoken here"),
        error => Refusal::bad_request(format!("this is no HTTP: {error}")),
    }
}

/// Why no head was read.
#[derive(Debug)]
pub enum HeadError {
    /// The stream ended before the first byte of one.
    Ended,
    /// It is none, or too long.
    Refused(Refusal),
    /// Reading failed, or the stream ended within.
    Io(io::Error),
}

/// Reads one head, and nothing that comes after it.
///
/// # Errors
/// See [`HeadError`].
pub fn read_head<H>(
    source: &mut impl BufRead,
    parse: impl Fn(&[u8]) -> Result<Option<(H, usize)>, Refusal>,
) -> Result<H, HeadError> {
    let mut bytes = Vec::new();
    loop {
        let available = match source.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(HeadError::Io(error)),
        };
        if available.is_empty() {
            return Err(if bytes.is_empty() {
                HeadError::Ended
            } else {
                HeadError::Io(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the connection ended within a head",
                ))
            });
        }
        let (before, taken) = (bytes.len(), available.len().min(MAX_HEAD_BYTES - bytes.len()));
        bytes.extend_from_slice(&available[..taken]);
        match parse(&bytes).map_err(HeadError::Refused)? {
            Some((head, length)) => {
                source.consume(length - before);
                return Ok(head);
            }
            None if bytes.len() >= MAX_HEAD_BYTES => {
                let text = format!("the head is longer than {MAX_HEAD_BYTES} bytes");
                return Err(HeadError::Refused(Refusal::new(431, text)));
            }
            None => source.consume(taken),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Result<RequestHead, u16> {
        let whole = RequestHead::parse(text.as_bytes()).map_err(|refusal| refusal.status)?;
        Ok(whole.expect("a whole head").0)
    }

    #[test]
    fn what_docker_sends() {
        let head = request(
            "POST /GraphDriver.ApplyDiff?id=1&parent= HTTP/1.1\r\nHost: %2Frun%2Fa.sock\r\nUser-Agent: Go-http-client/1.1\r\n\
             Transfer-Encoding: chunked\r\nAccept: application/vnd.docker.plugins.v1.2+json\r\nAccept-Encoding: gzip\r\n\r\n",
        );
        let expected = RequestHead {
            method: "POST".to_owned(),
            target: "/GraphDriver.ApplyDiff?id=1&parent=".to_owned(),
            framing: Framing::Chunked,
            expects_continue: false,
            keep_alive: true,
        };
        assert_eq!(head, Ok(expected));
    }

    #[test]
    fn lengths() {
        let framing =
            |headers: &str| request(&format!("POST / HTTP/1.1\r\n{headers}\r\n")).map(|head| head.framing);
        let table = [
            ("", Ok(Framing::Length(0))),
            ("Content-Length: 7\r\n", Ok(Framing::Length(7))),
            ("content-length:7\r\n", Ok(Framing::Length(7))),
            ("Content-Length: 7\r\nContent-Length: 7\r\n", Ok(Framing::Length(7))),
            ("Content-Length: 7\r\nContent-Length: 8\r\n", Err(400)),
            ("Content-Length: +7\r\n", Err(400)),
            ("Content-Length: -7\r\n", Err(400)),
            ("Content-Length: 7, 7\r\n", Err(400)),
            ("Content-Length: \r\n", Err(400)),
            ("Content-Length: 99999999999999999999\r\n", Err(400)),
            ("Transfer-Encoding: Chunked\r\n", Ok(Framing::Chunked)),
            ("Transfer-Encoding: gzip, chunked\r\n", Err(501)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(501)),
            ("Transfer-Encoding: chunked\r\nContent-Length: 7\r\n", Err(400)),
            ("Expect: miracles\r\n", Err(417)),
        ];
        for (headers, expected) in table {
            assert_eq!(framing(headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn what_is_no_request() {
        let table = [
            ("\0\0\0\0\r\n\r\n", 400),
            ("POST\r\n\r\n", 400),
            ("POST / HTTP/1.0\r\n\r\n", 505),
            ("POST / HTTP/2.0\r\n\r\n", 505),
            ("POST / HTTP/1.1\r\nno colon\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\n folded: line\r\n\r\n", 400),
        ];
        for (text, status) in table {
            assert_eq!(request(text), Err(status), "{text:?}");
        }
        let many = format!("POST / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1));
        assert_eq!(request(&many), Err(431));
    }

    #[test]
    fn connection_and_expectation() {
        let head =
            request("POST / HTTP/1.1\r\nConnection: foo, Close\r\nExpect: 100-Continue\r\n\r\n").unwrap();
        assert!(!head.keep_alive && head.expects_continue);
    }

    #[test]
    fn responses() {
        let response = |text: &str| ResponseHead::parse(text.as_bytes()).unwrap().unwrap().0;
        let table = [
            ("HTTP/1.1 200 OK\r\n\r\n", 200, Framing::UntilClose),
            ("HTTP/1.1 500 \r\nContent-Length: 3\r\n\r\n", 500, Framing::Length(3)),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, Framing::Chunked),
            ("HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n", 204, Framing::Length(0)),
            ("HTTP/1.0 200 OK\r\n\r\n", 200, Framing::UntilClose),
        ];
        for (text, status, framing) in table {
            assert_eq!(response(text), ResponseHead { status, framing }, "{text:?}");
        }
    }

    #[test]
    fn a_head_is_read_and_no_byte_more() {
        let text = b"POST / HTTP/1.1\r\n\r\nbody";
        for size in 1..=text.len() {
            let mut source = io::BufReader::with_capacity(size, &text[..]);
            read_head(&mut source, RequestHead::parse).unwrap();
            let mut rest = String::new();
            io::Read::read_to_string(&mut source, &mut rest).unwrap();
            assert_eq!(rest, "body", "{size}");
        }
        assert!(matches!(read_head(&mut &b""[..], RequestHead::parse), Err(HeadError::Ended)));
        assert!(matches!(read_head(&mut &text[..9], RequestHead::parse), Err(HeadError::Io(_))));
        let endless = format!("POST / HTTP/1.1\r\nlong: {}", "x".repeat(MAX_HEAD_BYTES));
        let refused = read_head(&mut endless.as_bytes(), RequestHead::parse);
        assert!(matches!(refused, Err(HeadError::Refused(Refusal { status: 431, .. }))), "{refused:?}");
    }
}
