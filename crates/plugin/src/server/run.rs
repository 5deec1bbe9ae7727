//! The server: connections to threads, and its end.

use std::collections::HashMap;
use std::io::{self, PipeReader, PipeWriter, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use graphdriver_core::{Error, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Gid;
use parking_lot::{Condvar, Mutex};

use super::access::Access;
use super::connection::Connection;
use super::limits::Limits;
use super::listener::Listener;
use super::service::Service;
use crate::stream::Stream;

/// How long to wait when the process has no descriptor or thread left for another connection.
const SHORTAGE: Duration = Duration::from_millis(100);

/// Answers calls on its listeners until it is stopped.
#[derive(Debug)]
pub struct Server {
    service: Service,
    listeners: Vec<Listener>,
    access: Access,
    limits: Limits,
    stop: Arc<Stop>,
}

/// Ends a [`Server`], from any thread.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<Stop>);

/// A pipe that is readable once the server is to end: something to poll beside sockets.
#[derive(Debug)]
struct Stop {
    requested: AtomicBool,
    reader: PipeReader,
    writer: PipeWriter,
}

impl Stopper {
    /// Lets the server accept no more, end what is under way within its [grace time](Limits::grace_time), and return.
    pub fn stop(&self) {
        if !self.0.requested.swap(true, Ordering::AcqRel)
            && let Err(error) = (&self.0.writer).write_all(b"x")
        {
            tracing::error!(%error, "the server cannot be told to stop");
        }
    }
}

impl Server {
    /// A server that answers by `service` on `listeners`.
    ///
    /// # Errors
    /// `Io` when the process has no descriptors left.
    pub fn new(service: Service, listeners: Vec<Listener>) -> Result<Self> {
        let (reader, writer) = io::pipe().map_err(|error| Error::io("pipe", "", error))?;
        let stop = Arc::new(Stop { requested: AtomicBool::new(false), reader, writer });
        Ok(Self { service, listeners, access: Access { group: None }, limits: Limits::default(), stop })
    }

    /// Lets members of `group` call on unix sockets, besides root and the user who runs the server.
    #[must_use]
    pub fn with_group(mut self, group: Option<Gid>) -> Self {
        self.access = Access { group };
        self
    }

    /// Bounds other than the default ones.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What answers.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// For whoever is to end it.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.stop))
    }

    /// Serves until it is [stopped](Stopper::stop). All its threads have ended then.
    ///
    /// # Errors
    /// `Io` when there can be no more connections.
    pub fn run(&self) -> Result<()> {
        let connections = Connections::default();
        thread::scope(|scope| {
            let mut number = 0;
            let result = loop {
                match self.next(&connections) {
                    Ok(Some(stream)) => {
                        number += 1;
                        self.start(scope, &connections, number, stream);
                    }
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            // Those who wait for a request see it by themselves.
            self.stopper().stop();
            connections.end(self.limits.grace_time);
            result
        })
    }

    /// The next connection; `None` once the server is to end.
    fn next(&self, connections: &Connections) -> Result<Option<Stream>> {
        let failed = |errno: Errno| Error::call("poll", errno);
        loop {
            let full = connections.count() >= self.limits.connections;
            let listeners = if full { &[][..] } else { &self.listeners };
            let fds = listeners.iter().map(|listener| PollFd::new(listener.as_fd(), PollFlags::POLLIN));
            let mut fds: Vec<_> =
                fds.chain([PollFd::new(self.stop.reader.as_fd(), PollFlags::POLLIN)]).collect();
            let timeout = if full { PollTimeout::from(50u8) } else { PollTimeout::NONE };
            match poll(&mut fds, timeout) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(failed(errno)),
            }
            if self.stop.requested.load(Ordering::Acquire) {
                return Ok(None);
            }
            let ready = fds.iter().map(|fd| fd.any() == Some(true));
            for (listener, _) in listeners.iter().zip(ready).filter(|(_, ready)| *ready) {
                match listener.accept() {
                    Ok(stream) => return Ok(Some(stream)),
                    Err(error) if is_of_client(&error) => {}
                    Err(error) => {
                        tracing::warn!(%error, "a connection cannot be accepted");
                        thread::sleep(SHORTAGE);
                    }
                }
            }
        }
    }

    fn start<'scope>(
        &'scope self,
        scope: &'scope thread::Scope<'scope, '_>,
        connections: &'scope Connections,
        number: u64,
        stream: Stream,
    ) {
        if let Err(error) = connections.add(number, &stream) {
            tracing::warn!(%error, "a connection is closed for lack of descriptors");
            return;
        }
        let serve = move || {
            let connection = Connection {
                stream: &stream,
                service: &self.service,
                access: self.access,
                limits: self.limits,
                stop: self.stop.reader.as_fd(),
            };
            connection.serve();
            // Before it is forgotten: then it counts until it is closed.
            drop(stream);
            connections.remove(number);
        };
        if let Err(error) = thread::Builder::new().name("plugin".to_owned()).spawn_scoped(scope, serve) {
            tracing::warn!(%error, "a connection is closed for lack of threads");
            connections.remove(number);
            thread::sleep(SHORTAGE);
        }
    }
}

/// Whether the client was gone, or somebody else accepted it.
fn is_of_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | WouldBlock)
}

/// The connections that are open, by their numbers.
#[derive(Default)]
struct Connections {
    open: Mutex<HashMap<u64, Stream>>,
    changed: Condvar,
}

impl Connections {
    fn count(&self) -> usize {
        self.open.lock().len()
    }

    fn add(&self, number: u64, stream: &Stream) -> io::Result<()> {
        let stream = stream.try_clone()?;
        self.open.lock().insert(number, stream);
        Ok(())
    }

    fn remove(&self, number: u64) {
        self.open.lock().remove(&number);
        self.changed.notify_all();
    }

    /// Waits until all have ended, and cuts those that have not in time.
    fn end(&self, grace: Duration) {
        let deadline = Instant::now() + grace;
        let mut open = self.open.lock();
        while !open.is_empty() {
            if self.changed.wait_until(&mut open, deadline).timed_out() {
                break;
            }
        }
        for stream in open.values() {
            // One that has ended by itself meanwhile needs no end.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
