//! One call: a connection, a request, and its answer.

use std::io::{self, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use graphdriver_core::{Error, ErrorKind, LayerId, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::address::Address;
use super::options::PluginOptions;
use crate::stream::Stream;
use crate::wire::{Body, ErrorReply, HeadError, ResponseHead, kind_named, read_head};

/// Longest answer in JSON that is read, in bytes: changes of a layer with a million files.
const MAX_ANSWER_BYTES: u64 = 256 << 20;

/// The first and the longest time between two attempts to connect.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(500)];

/// The answer's body, not read yet.
pub(super) type Answered = Body<BufReader<Stream>>;

/// Makes calls to one plugin, each on a connection of its own. What was sent is never sent again: nobody knows what became of it.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) address: Address,
    /// For messages: `plugin:NAME`.
    pub(super) driver: String,
    pub(super) options: PluginOptions,
}

/// What is called, and for which layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub(super) method: &'static str,
    pub(super) id: Option<&'a LayerId>,
}

impl Caller {
    /// Calls `method` and reads the answer.
    ///
    /// # Errors
    /// As the plugin says; `Io` when it cannot be reached, or does not speak the protocol.
    pub(super) fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        id: Option<&LayerId>,
        request: &impl Serialize,
    ) -> Result<T> {
        let subject = Subject { method, id };
        let body = self.open(subject, request)?;
        self.decode(subject, body)
    }

    /// Calls `method`, whose answer is a stream.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub(super) fn open(&self, subject: Subject<'_>, request: &impl Serialize) -> Result<Answered> {
        let failed = |error| self.failed(subject, error);
        let text = serde_json::to_vec(request).map_err(|error| failed(error.into()))?;
        let stream = self.connect(subject)?;
        let mut message = head(subject.method, &format!("Content-Length: {}", text.len())).into_bytes();
        message.extend_from_slice(&text);
        (&stream).write_all(&message).map_err(failed)?;
        self.answer(subject, stream)
    }

    /// Reads the head of the answer.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub(super) fn answer(&self, subject: Subject<'_>, stream: Stream) -> Result<Answered> {
        let mut reader = BufReader::with_capacity(64 << 10, stream);
        let head = loop {
            let head = read_head(&mut reader, ResponseHead::parse).map_err(|error| match error {
                HeadError::Ended => self.failed(subject, io::ErrorKind::UnexpectedEof.into()),
                HeadError::Io(error) => self.failed(subject, error),
                HeadError::Refused(refusal) => self.error(subject, ErrorKind::Io).detail(refusal.to_string()),
            })?;
            // Further ones of the kind "go on" come before the answer.
            if head.status >= 200 {
                break head;
            }
        };
        let mut body = Body::new(reader, head.framing);
        if head.status == 200 {
            return Ok(body);
        }
        let text = self.read(subject, &mut body)?;
        let reply = serde_json::from_slice(&text).ok().filter(|reply: &ErrorReply| !reply.err.is_empty());
        let reply = reply.unwrap_or_else(|| {
            let text = String::from_utf8_lossy(&text).trim().to_owned();
            let err = if text.is_empty() { format!("HTTP status {}", head.status) } else { text };
            ErrorReply { err, kind: String::new() }
        });
        let otherwise = if head.status == 404 { ErrorKind::NotSupported } else { ErrorKind::Command };
        Err(self.told(subject, &reply, otherwise))
    }

    /// The answer in JSON.
    ///
    /// # Errors
    /// As [`call`](Self::call): an answer can tell of an error, too.
    pub(super) fn decode<T: DeserializeOwned>(&self, subject: Subject<'_>, mut body: Answered) -> Result<T> {
        let text = self.read(subject, &mut body)?;
        let invalid = |error: serde_json::Error| {
            self.error(subject, ErrorKind::Io).detail("the plugin's answer makes no sense").source(error)
        };
        let reply: ErrorReply = serde_json::from_slice(&text).map_err(invalid)?;
        if !reply.err.is_empty() {
            return Err(self.told(subject, &reply, ErrorKind::Command));
        }
        serde_json::from_slice(&text).map_err(invalid)
    }

    /// A new connection, for one request.
    ///
    /// # Errors
    /// `Io` when nobody listens, or none can be made.
    pub(super) fn connect(&self, subject: Subject<'_>) -> Result<Stream> {
        let deadline = Instant::now() + self.options.connect_timeout;
        let [mut pause, longest] = PAUSES;
        let stream = loop {
            match self.try_connect() {
                Err(error) if is_absence(&error) && Instant::now() + pause < deadline => thread::sleep(pause),
                result => break result,
            }
            pause = (pause * 2).min(longest);
        };
        let stream = stream.and_then(|stream| {
            stream.set_read_timeout(self.options.timeout)?;
            stream.set_write_timeout(self.options.timeout)?;
            Ok(stream)
        });
        stream.map_err(|error| {
            let detail = format!("the plugin cannot be reached at {}", self.place());
            self.error(subject, ErrorKind::Io).detail(detail).source(error)
        })
    }

    /// The failure of a system call or of the connection.
    pub(super) fn failed(&self, subject: Subject<'_>, error: io::Error) -> Error {
        let detail = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "the plugin did not answer in time",
            _ => "the connection to the plugin broke",
        };
        self.error(subject, ErrorKind::Io).detail(detail).source(error)
    }

    /// A failure of this call.
    pub(super) fn error(&self, subject: Subject<'_>, kind: ErrorKind) -> Error {
        let error = Error::new(kind, subject.method).driver(&self.driver);
        match subject.id {
            Some(id) => error.layer(id),
            None => error,
        }
    }

    fn told(&self, subject: Subject<'_>, reply: &ErrorReply, otherwise: ErrorKind) -> Error {
        let kind = kind_named(&reply.kind).unwrap_or(otherwise);
        self.error(subject, kind).detail(reply.err.trim())
    }

    fn read(&self, subject: Subject<'_>, body: &mut Answered) -> Result<Vec<u8>> {
        crate::limited::read_limited(body, MAX_ANSWER_BYTES).map_err(|error| self.failed(subject, error))
    }

    fn try_connect(&self) -> io::Result<Stream> {
        match &self.address {
            Address::Unix(path) => UnixStream::connect(path).map(Stream::Unix),
            Address::Tcp(host) => TcpStream::connect(host).map(Stream::Tcp),
        }
    }

    fn place(&self) -> String {
        match &self.address {
            Address::Unix(path) => path.display().to_string(),
            Address::Tcp(host) => host.clone(),
        }
    }
}

/// The head of a request to `target`, with one header more.
pub(super) fn head(target: &str, length: &str) -> String {
    // A host is needed, and means nothing: Docker sends the path of the socket, too.
    format!(
        "POST /{target} HTTP/1.1\r\nHost: plugin\r\nAccept: application/vnd.docker.plugins.v1.2+json\r\n\
         Connection: close\r\n{length}\r\n\r\n"
    )
}

/// Whether nobody listens, which may change.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::wire::StatusReply;

    #[test]
    fn a_plugin_that_is_silent_and_one_that_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let options = PluginOptions {
            timeout: Some(Duration::from_millis(50)),
            connect_timeout: Duration::ZERO,
            ..PluginOptions::default()
        };
        let caller = Caller { address: Address::Unix(path.clone()), driver: "plugin:p".to_owned(), options };
        let call = || caller.call::<StatusReply>("GraphDriver.Status", None, &()).unwrap_err();
        let absent = call().report().to_string();
        assert!(absent.contains(&format!("cannot be reached at {}", path.display())), "{absent}");
        // Connections are made, and nobody takes them.
        let _listener = UnixListener::bind(&path).unwrap();
        let silent = call();
        assert_eq!(silent.kind(), ErrorKind::Io);
        assert!(silent.to_string().contains("did not answer in time"), "{}", silent.report());
    }
}
