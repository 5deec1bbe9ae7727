//! Docker's graph driver plugin protocol, both ends.
//!
//! - [`Service`] answers the protocol's calls with one of the drivers of a [`Registry`](graphdriver_core::Registry); [`Server`] brings them from a socket. So dockerd keeps its layers with a driver of this family.
//! - [`PluginDriver`] is a [`Driver`](graphdriver_core::Driver) whose work a plugin does, whoever wrote it; [`DRIVER`] registers it for all names `plugin:NAME`.
//! - [`wire`] is the protocol, for those who want to speak it themselves.
//!
//! The protocol is HTTP/1.1 on a socket, one `POST` for each call of Go's `graphdriver.Driver`, with JSON in both bodies; layers go as tars, in chunks. Docker has had it since
//! 1.9, behind `--experimental` from 1.13 to 26; deprecated in 27, it is gone in 28. All I/O blocks: a connection takes a thread while it lasts.

mod client;
mod limited;
mod server;
mod stream;
pub mod wire;

pub use client::{Address, DRIVER, PluginDriver, PluginOptions, SEARCHED_DIRS, SOCKET_DIR, find_plugin};
pub use server::{Limits, Listener, Server, Service, SpecFile, Stopper};
