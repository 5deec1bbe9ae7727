//! An archive on its way into a layer: read and decompressed by a thread of its own, so that the one that unpacks never waits for that.

use std::io::{self, BufReader, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use graphdriver::{Error, ErrorKind};

use crate::compression::{self, Compression};
use crate::digest::{Digest, HashingReader};

/// Bytes that go from thread to thread at a time; small enough to stay in a core's cache.
const BUFFER: usize = 256 << 10;
/// Filled buffers that may wait for the reader.
const QUEUE: usize = 4;

/// What went through an [`ArchiveStream`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Digest and size of the source as it is, where it is compressed. Otherwise they are the archive's, which whoever unpacks it knows.
    pub(crate) blob: Option<(Digest, u64)>,
}

/// The uncompressed archive.
pub(crate) struct ArchiveStream {
    filled: Receiver<io::Result<Vec<u8>>>,
    empty: Sender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
    thread: JoinHandle<Option<Contents>>,
}

impl ArchiveStream {
    /// Starts reading `source`.
    ///
    /// # Errors
    /// `Io` when no thread can be made.
    pub(crate) fn new(source: impl Read + Send + 'static) -> Result<Self, Error> {
        let (filled_sender, filled) = sync_channel(QUEUE);
        let (empty, empty_receiver) = channel();
        let work = move || {
            let queue = Queue { filled: filled_sender, empty: empty_receiver };
            match pump(source, &queue) {
                Ok(contents) => Some(contents),
                Err(error) => {
                    // Nobody to tell when the reader has given up.
                    let _ = queue.filled.send(Err(error));
                    None
                }
            }
        };
        let thread = thread::Builder::new().name("archive".into()).spawn(work);
        let thread = thread.map_err(|error| Error::new(ErrorKind::Io, "start thread").source(error))?;
        Ok(Self { filled, empty, current: Vec::new(), position: 0, thread })
    }

    /// What there is to say of everything, after reading what is left.
    ///
    /// # Errors
    /// What ended reading early.
    pub(crate) fn finish(mut self) -> io::Result<Contents> {
        io::copy(&mut self, &mut io::sink())?;
        let contents =
            self.thread.join().map_err(|_| io::Error::other("the thread that reads the archive panicked"))?;
        contents.ok_or_else(|| io::Error::other("reading the archive failed before"))
    }
}

impl Read for ArchiveStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position == self.current.len() {
            // A closed channel is the end: the thread sends what goes wrong before it ends.
            let Ok(next) = self.filled.recv() else { return Ok(0) };
            let spent = std::mem::replace(&mut self.current, next?);
            self.position = 0;
            // Nobody takes it when the thread is done.
            let _ = self.empty.send(spent);
        }
        let count = buffer.len().min(self.current.len() - self.position);
        buffer[..count].copy_from_slice(&self.current[self.position..][..count]);
        self.position += count;
        Ok(count)
    }
}

/// The thread's end of the two channels.
struct Queue {
    filled: SyncSender<io::Result<Vec<u8>>>,
    empty: Receiver<Vec<u8>>,
}

impl Queue {
    /// Passes all of `source` on, or as much of it as somebody wants.
    fn pass(&self, source: &mut dyn Read) -> io::Result<()> {
        loop {
            let mut buffer = self.empty.try_recv().unwrap_or_default();
            buffer.resize(BUFFER, 0);
            let read = fill(source, &mut buffer)?;
            buffer.truncate(read);
            if read == 0 || self.filled.send(Ok(buffer)).is_err() {
                return Ok(());
            }
        }
    }
}

fn pump(source: impl Read, queue: &Queue) -> io::Result<Contents> {
    let (compression, mut encoded) = compression::sniff(source)?;
    if compression == Compression::None {
        queue.pass(&mut encoded)?;
        return Ok(Contents { blob: None });
    }
    let mut blob = HashingReader::new(encoded);
    let buffered = BufReader::with_capacity(BUFFER, &mut blob);
    queue.pass(&mut compression::decode(compression, buffered)?)?;
    Ok(Contents { blob: Some(blob.finish()) })
}

/// Reads until `buffer` is full or `source` ends: decoders give a few KiB at a time, and each hand-over has its price.
fn fill(source: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives `left` bytes, a few at a time, and then fails or ends.
    struct Source {
        left: usize,
        error: Option<io::Error>,
    }

    impl Read for Source {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = buffer.len().min(self.left).min(10_007);
            buffer[..count].fill(b'x');
            self.left -= count;
            match self.error.take_if(|_| count == 0) {
                Some(error) => Err(error),
                None => Ok(count),
            }
        }
    }

    #[test]
    fn passes_everything() {
        let size = 3 * BUFFER + 17;
        let mut stream = ArchiveStream::new(Source { left: size, error: None }).unwrap();
        let mut data = Vec::new();
        stream.read_to_end(&mut data).unwrap();
        assert!(data == vec![b'x'; size]);
        assert_eq!(stream.finish().unwrap(), Contents { blob: None });
    }

    #[test]
    fn the_digest_of_a_compressed_archive() {
        let archive = vec![1; 1 << 20];
        let blob = zstd::encode_all(&archive[..], 1).unwrap();
        let mut stream = ArchiveStream::new(io::Cursor::new(blob.clone())).unwrap();
        let mut data = Vec::new();
        stream.read_to_end(&mut data).unwrap();
        assert!(data == archive);
        assert_eq!(stream.finish().unwrap().blob, Some((Digest::of(&blob), blob.len() as u64)));
    }

    #[test]
    fn a_failure_comes_out_where_it_happened() {
        let error = io::Error::from_raw_os_error(nix::libc::EIO);
        let mut stream = ArchiveStream::new(Source { left: 2 * BUFFER, error: Some(error) }).unwrap();
        let mut data = Vec::new();
        let error = stream.read_to_end(&mut data).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::EIO));
        assert_eq!(data.len(), 2 * BUFFER);
        assert!(stream.finish().is_err());
    }

    #[test]
    fn a_reader_that_gives_up_does_not_hang_the_thread() {
        let stream = ArchiveStream::new(Source { left: 100 * BUFFER, error: None }).unwrap();
        let ArchiveStream { filled, thread, .. } = stream;
        drop(filled);
        assert!(thread.join().unwrap().is_some());
    }
}
