//! Bodies of messages as streams.

use std::io::{self, BufRead, Read, Write};

use super::head::Framing;

/// Longest line that tells the size of a chunk, extensions included, in bytes.
const MAX_SIZE_LINE: usize = 256;

/// Most bytes of trailers after the last chunk.
const MAX_TRAILER_BYTES: usize = 8 << 10;

/// The body of one message, read from a stream on which others may follow.
///
/// A stream that ends before the body does is an error, so that a body that was read to its end is whole.
#[derive(Debug)]
pub struct Body<R> {
    source: R,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// This many bytes are left.
    Length(u64),
    /// The line with the size of a chunk comes next.
    Size,
    /// This many bytes of a chunk are left, and the end of its line after them.
    Chunk(u64),
    UntilClose,
    Ended,
    /// Nothing more can be made of the stream.
    Broken,
}

impl<R: BufRead> Body<R> {
    /// The body that begins at the next byte of `source`.
    pub fn new(source: R, framing: Framing) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Ended,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size,
            Framing::UntilClose => State::UntilClose,
        };
        Self { source, state }
    }

    /// Whether all has been read.
    pub fn is_at_end(&self) -> bool {
        self.state == State::Ended
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let line = read_line(&mut self.source, MAX_SIZE_LINE)?;
        // A line without a digit is zero to it.
        let begins = line.first().is_some_and(u8::is_ascii_hexdigit);
        let size = match httparse::parse_chunk_size(&line) {
            Ok(httparse::Status::Complete((_, size))) if begins => size,
            _ => return Err(invalid(format!("{:?} is no size of a chunk", String::from_utf8_lossy(&line)))),
        };
        if size > 0 {
            self.state = State::Chunk(size);
            return Ok(());
        }
        let mut left = MAX_TRAILER_BYTES;
        loop {
            let line = read_line(&mut self.source, left)?;
            if line == b"\r\n" {
                self.state = State::Ended;
                return Ok(());
            }
            left = left.saturating_sub(line.len());
        }
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.state == State::Size {
            self.next_chunk()?;
        }
        let left = match self.state {
            State::Length(left) | State::Chunk(left) => left,
            State::UntilClose => u64::MAX,
            State::Ended | State::Size => return Ok(0),
            State::Broken => return Err(invalid("the body is broken".to_owned())),
        };
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.source.read(&mut buffer[..wanted])?;
        match self.state {
            State::UntilClose if read == 0 => self.state = State::Ended,
            State::UntilClose => {}
            _ if read == 0 => return Err(cut_off()),
            State::Chunk(left) if left == read as u64 => {
                if read_line(&mut self.source, 2)? != b"\r\n" {
                    return Err(invalid("a chunk does not end where its size says".to_owned()));
                }
                self.state = State::Size;
            }
            State::Chunk(left) => self.state = State::Chunk(left - read as u64),
            State::Length(left) if left == read as u64 => self.state = State::Ended,
            State::Length(left) => self.state = State::Length(left - read as u64),
            State::Size | State::Ended | State::Broken => {}
        }
        Ok(read)
    }
}

impl<R: BufRead> Read for Body<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let result = self.read_some(buffer);
        if result.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Interrupted) {
            self.state = State::Broken;
        }
        result
    }
}

/// A line with its end, of at most `limit` bytes.
fn read_line(source: &mut impl BufRead, limit: usize) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    source.by_ref().take(limit as u64).read_until(b'\n', &mut line)?;
    if line.ends_with(b"\n") {
        return Ok(line);
    }
    Err(if line.len() < limit {
        cut_off()
    } else {
        invalid("a line of a chunked body is too long".to_owned())
    })
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended within a body")
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Writes a body in chunks, one for each `write`.
///
/// Only [`finish`](Self::finish) ends it. A body that was dropped before that is broken to whoever reads it, which is how the protocol tells that
/// something went wrong after the head was sent.
#[derive(Debug)]
pub struct ChunkedWriter<W> {
    sink: W,
}

impl<W: Write> ChunkedWriter<W> {
    /// A body that begins here.
    pub fn new(sink: W) -> Self {
        Self { sink }
    }

    /// Ends the body and gives back the stream.
    ///
    /// # Errors
    /// Whatever writing fails with.
    pub fn finish(mut self) -> io::Result<W> {
        self.sink.write_all(b"0\r\n\r\n")?;
        self.sink.flush()?;
        Ok(self.sink)
    }
}

impl<W: Write> Write for ChunkedWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // An empty chunk would be the end.
        if !bytes.is_empty() {
            write!(self.sink, "{:x}\r\n", bytes.len())?;
            self.sink.write_all(bytes)?;
            self.sink.write_all(b"\r\n")?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8], framing: Framing) -> (io::Result<Vec<u8>>, Vec<u8>) {
        let mut source = bytes;
        let mut body = Vec::new();
        let result = Body::new(&mut source, framing).read_to_end(&mut body).map(|_| body);
        (result, source.to_vec())
    }

    #[test]
    fn bodies_end_where_they_should() {
        let table: [(&str, Framing, &str, &str); 8] = [
            ("abcdef", Framing::Length(3), "abc", "def"),
            ("abcdef", Framing::Length(0), "", "abcdef"),
            ("abcdef", Framing::UntilClose, "abcdef", ""),
            ("0\r\n\r\nnext", Framing::Chunked, "", "next"),
            ("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nnext", Framing::Chunked, "abcde", "next"),
            ("A;name=value\r\n0123456789\r\n0\r\n\r\n", Framing::Chunked, "0123456789", ""),
            ("3\r\nabc\r\n0\r\nTrailer: yes\r\nOther: no\r\n\r\nnext", Framing::Chunked, "abc", "next"),
            ("003\r\nabc\r\n000\r\n\r\n", Framing::Chunked, "abc", ""),
        ];
        for (bytes, framing, expected, rest) in table {
            let (body, left) = read(bytes.as_bytes(), framing);
            assert_eq!(body.unwrap(), expected.as_bytes(), "{bytes:?}");
            assert_eq!(left, rest.as_bytes(), "{bytes:?}");
        }
    }

    #[test]
    fn broken_bodies() {
        use io::ErrorKind::{InvalidData, UnexpectedEof};
        let long = format!("{}\r\n", "0".repeat(MAX_SIZE_LINE));
        let trailers = format!("0\r\n{}", "a: b\r\n".repeat(MAX_TRAILER_BYTES));
        let table = [
            ("ab", Framing::Length(3), UnexpectedEof),
            ("", Framing::Length(3), UnexpectedEof),
            ("", Framing::Chunked, UnexpectedEof),
            ("3\r\nab", Framing::Chunked, UnexpectedEof),
            ("3\r\nabc", Framing::Chunked, UnexpectedEof),
            ("3\r\nabc\r\n", Framing::Chunked, UnexpectedEof),
            ("3\r\nabc\r\n0\r\n", Framing::Chunked, UnexpectedEof),
            ("3\r\nabcd\r\n0\r\n\r\n", Framing::Chunked, InvalidData),
            ("x\r\nabc\r\n", Framing::Chunked, InvalidData),
            ("-3\r\nabc\r\n", Framing::Chunked, InvalidData),
            ("\r\nabc\r\n", Framing::Chunked, InvalidData),
            ("fffffffffffffffff\r\nabc\r\n", Framing::Chunked, InvalidData),
            (&*long, Framing::Chunked, InvalidData),
            (&*trailers, Framing::Chunked, InvalidData),
        ];
        for (bytes, framing, kind) in table {
            assert_eq!(read(bytes.as_bytes(), framing).0.unwrap_err().kind(), kind, "{bytes:?}");
        }
    }

    #[test]
    fn after_an_error_there_is_no_end() {
        let mut body = Body::new(&b"3\r\nab"[..], Framing::Chunked);
        let mut buffer = [0; 2];
        assert_eq!(body.read(&mut buffer).unwrap(), 2);
        assert!(body.read(&mut buffer).is_err());
        assert!(body.read(&mut buffer).is_err());
        assert!(!body.is_at_end());
    }

    #[test]
    fn an_unfinished_body_is_broken() {
        let mut bytes = Vec::new();
        ChunkedWriter::new(&mut bytes).write_all(b"some").unwrap();
        assert!(read(&bytes, Framing::Chunked).0.is_err());
    }

    proptest! {
        #[test]
        fn chunks_come_out_as_they_went_in(chunks: Vec<Vec<u8>>) {
            let mut writer = ChunkedWriter::new(Vec::new());
            for chunk in &chunks {
                writer.write_all(chunk).unwrap();
            }
            let bytes = writer.finish().unwrap();
            let (body, rest) = read(&bytes, Framing::Chunked);
            prop_assert_eq!(body.unwrap(), chunks.concat());
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn no_bytes_break_the_reader(bytes: Vec<u8>) {
            // Whatever comes, it ends, and gives no more than there was.
            let (body, _) = read(&bytes, Framing::Chunked);
            prop_assert!(body.map_or(0, |body| body.len()) <= bytes.len());
        }
    }
}
