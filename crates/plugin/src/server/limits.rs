//! How much a client may ask for.

use std::time::Duration;

/// Bounds for connections and requests. Archives have none: a layer is as long as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once, each of which takes a thread; further ones wait.
    pub connections: usize,
    /// Longest body of a call in JSON, in bytes.
    pub request_bytes: u64,
    /// How long a request may take to come, without the archive that may follow.
    pub request_time: Duration,
    /// How long a connection may stay open without a request.
    pub idle_time: Duration,
    /// How long an archive may make no progress, in either direction.
    pub stall_time: Duration,
    /// How long calls that are under way may take to end when the server is stopped; then their connections are cut.
    pub grace_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            request_bytes: 1 << 20,
            request_time: Duration::from_secs(30),
            idle_time: Duration::from_secs(60),
            stall_time: Duration::from_secs(600),
            grace_time: Duration::from_secs(10),
        }
    }
}
