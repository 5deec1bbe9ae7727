//! Sending an archive.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;

use graphdriver_core::{ArchiveDigest, Error, LayerId, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sha2::{Digest, Sha256};

use super::caller::{Caller, Subject, head};
use crate::stream::Stream;
use crate::wire::{ChunkedWriter, SizeReply};

const BUFFER_BYTES: usize = 128 << 10;

/// How sending ended.
enum Sent {
    All,
    /// The plugin has answered already, or hears no more.
    Refused(Option<io::Error>),
    /// There was no more to be had, and not the end.
    Unreadable(io::Error),
}

/// Fills the layer `id` from `archive`, and tells which archive it was, if asked to.
///
/// # Errors
/// As the plugin says; `Io` when the archive cannot be read, or the connection breaks.
pub(super) fn apply(
    caller: &Caller,
    id: &LayerId,
    archive: &mut dyn Read,
    digest: bool,
) -> Result<(SizeReply, Option<ArchiveDigest>)> {
    let subject = Subject { method: "GraphDriver.ApplyDiff", id: Some(id) };
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("id", id.as_str()), ("parent", ""), ("strict", "true")])
        .finish();
    let stream = caller.connect(subject)?;
    let head = head(&format!("{}?{query}", subject.method), "Transfer-Encoding: chunked");
    (&stream).write_all(head.as_bytes()).map_err(|error| caller.failed(subject, error))?;
    let mut hashed = Hashed { source: archive, digest: digest.then(Sha256::new), bytes: 0 };
    let sent = send(&stream, &mut hashed);
    if let Sent::Unreadable(_) = sent {
        // Not the end of a body, so that the plugin sees it is cut; it undoes what it has done, and then answers.
        let _ = stream.shutdown(Shutdown::Write);
    }
    let answered = caller.answer(subject, stream).and_then(|body| caller.decode(subject, body));
    match sent {
        Sent::All => Ok((answered?, hashed.finish())),
        Sent::Unreadable(error) => Err(Error::io("read", "archive", error).layer(id)),
        Sent::Refused(error) => {
            let early = || io::Error::other("it answered before it had the whole archive");
            answered.and_then(|_: SizeReply| Err(caller.failed(subject, error.unwrap_or_else(early))))
        }
    }
}

fn send(stream: &Stream, source: &mut impl Read) -> Sent {
    let mut chunks = ChunkedWriter::new(stream);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Sent::Unreadable(error),
        };
        if has_answered(stream) {
            return Sent::Refused(None);
        }
        if let Err(error) = chunks.write_all(&buffer[..read]) {
            return Sent::Refused(Some(error));
        }
    }
    match chunks.finish() {
        Ok(_) => Sent::All,
        Err(error) => Sent::Refused(Some(error)),
    }
}

fn has_answered(stream: &Stream) -> bool {
    let mut fds = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// A reader that knows what it has read.
struct Hashed<'a> {
    source: &'a mut dyn Read,
    digest: Option<Sha256>,
    bytes: u64,
}

impl Hashed<'_> {
    fn finish(self) -> Option<ArchiveDigest> {
        let digest = self.digest?;
        Some(ArchiveDigest { sha256: digest.finalize().into(), bytes: self.bytes })
    }
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.bytes += read as u64;
        if let Some(digest) = &mut self.digest {
            digest.update(&buffer[..read]);
        }
        Ok(read)
    }
}
