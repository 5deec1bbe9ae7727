//! One connection, from its first request to its end.

use std::cell::Cell;
use std::io::{self, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::access::Access;
use super::answer::Answer;
use super::limits::Limits;
use super::service::Service;
use crate::stream::Stream;
use crate::wire::{Body, Call, HeadError, Refusal, RequestHead, read_head};

const BUFFER_BYTES: usize = 64 << 10;

/// How long, and for how many bytes, a client that was refused may go on sending before its connection is cut.
const LINGER: Duration = Duration::from_secs(5);
const LINGER_BYTES: u64 = 64 << 20;

pub(crate) struct Connection<'a> {
    pub(crate) stream: &'a Stream,
    pub(crate) service: &'a Service,
    pub(crate) access: Access,
    pub(crate) limits: Limits,
    /// Readable once the server is to end.
    pub(crate) stop: BorrowedFd<'a>,
}

/// What becomes of the connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Request,
    Close,
    /// What the client still sends is thrown away, so that it comes to read the answer.
    Linger,
    /// At once, without a proper end.
    Break,
}

type Reader<'a> = BufReader<&'a Timed<'a>>;

impl Connection<'_> {
    /// Answers requests until there are no more.
    pub(crate) fn serve(&self) {
        let timed = Timed { stream: self.stream, deadline: Cell::new(None) };
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, &timed);
        let next = self.stream.set_write_timeout(Some(self.limits.stall_time)).and_then(|()| {
            if let Err(refusal) = self.access.check(self.stream) {
                return self.refuse(&refusal);
            }
            loop {
                if reader.buffer().is_empty() && !self.wait_for_request()? {
                    return Ok(Next::Close);
                }
                let next = self.exchange(&timed, &mut reader)?;
                if next != Next::Request {
                    return Ok(next);
                }
            }
        });
        match next {
            Ok(Next::Linger) => self.linger(&timed, &mut reader),
            Ok(Next::Break) => {
                let _ = self.stream.shutdown(Shutdown::Both);
            }
            Ok(Next::Request | Next::Close) => {}
            Err(error) => tracing::debug!(%error, "a connection broke"),
        }
    }

    /// Waits for the first byte of a request; false when there will be none.
    fn wait_for_request(&self) -> io::Result<bool> {
        let timeout = PollTimeout::try_from(self.limits.idle_time).unwrap_or(PollTimeout::MAX);
        let mut fds = [self.stop, self.stream.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        loop {
            match poll(&mut fds, timeout) {
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(fds[0].any() == Some(false)),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn exchange(&self, timed: &Timed<'_>, reader: &mut Reader<'_>) -> io::Result<Next> {
        timed.whole_within(self.limits.request_time);
        let head = match read_head(reader, RequestHead::parse) {
            Ok(head) => head,
            Err(HeadError::Ended) => return Ok(Next::Close),
            Err(HeadError::Refused(refusal)) => return self.refuse(&refusal),
            Err(HeadError::Io(error)) => return self.refuse(&Refusal::of_reading(&error)),
        };
        if head.method != "POST" {
            return self
                .refuse(&Refusal::new(405, format!("calls are made by POST, not by {}", head.method)));
        }
        if head.expects_continue {
            self.sink().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut body = Body::new(&mut *reader, head.framing);
        let answer = match Call::read(&head, &mut body, self.limits.request_bytes) {
            Ok(call) => {
                timed.each_within(self.limits.stall_time)?;
                self.answer(call, &mut body)
            }
            Err(refusal) => Answer::refusal(&refusal),
        };
        let all_read = body.is_at_end();
        let keep_alive = head.keep_alive && all_read;
        if !answer.send(&mut self.sink(), keep_alive)? {
            return Ok(Next::Break);
        }
        Ok(if keep_alive {
            Next::Request
        } else if all_read {
            Next::Close
        } else {
            Next::Linger
        })
    }

    /// A defect of a driver is an answer, too, and not the end of the server.
    fn answer(&self, call: Call, body: &mut Body<&mut Reader<'_>>) -> Answer {
        let answer = catch_unwind(AssertUnwindSafe(|| self.service.answer(call, body)));
        answer.unwrap_or_else(|_| {
            Answer::refusal(&Refusal::new(500, "the driver panicked; its standard error says where"))
        })
    }

    fn refuse(&self, refusal: &Refusal) -> io::Result<Next> {
        tracing::info!(%refusal, "a request is refused");
        Answer::refusal(refusal).send(&mut self.sink(), false)?;
        Ok(Next::Linger)
    }

    fn linger(&self, timed: &Timed<'_>, reader: &mut Reader<'_>) {
        timed.whole_within(LINGER);
        // Nothing depends on how it ends.
        let _ = self.stream.shutdown(Shutdown::Write);
        let _ = io::copy(&mut reader.take(LINGER_BYTES), &mut io::sink());
    }

    fn sink(&self) -> impl Write + '_ {
        self.stream
    }
}

/// A stream on which a whole request has to come in time, so that no client keeps a thread by sending a byte now and then.
struct Timed<'a> {
    stream: &'a Stream,
    deadline: Cell<Option<Instant>>,
}

impl Timed<'_> {
    /// All that is read from now on has to be there by then.
    fn whole_within(&self, time: Duration) {
        self.deadline.set(Some(Instant::now() + time));
    }

    /// Each part of what is read from now on may take this long.
    fn each_within(&self, time: Duration) -> io::Result<()> {
        self.deadline.set(None);
        self.stream.set_read_timeout(Some(time))
    }
}

impl Read for &Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(deadline) = self.deadline.get() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
        }
        let mut stream = self.stream;
        stream.read(buffer)
    }
}
