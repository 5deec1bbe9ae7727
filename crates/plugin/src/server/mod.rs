//! The end that has a driver.

mod access;
mod answer;
mod connection;
mod filling;
mod initialized;
mod limits;
mod listener;
mod run;
mod service;
mod spec_file;

pub use limits::Limits;
pub use listener::Listener;
pub use run::{Server, Stopper};
pub use service::Service;
pub use spec_file::SpecFile;
