//! The server on a real socket, with the vfs driver behind it, which needs no privilege.

#![allow(clippy::unwrap_used, reason = "tests")]

mod calls;
mod ending;
mod malformed;
mod streams;
mod support;
