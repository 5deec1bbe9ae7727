//! Changes, export, usage, copying and changing owners, on real file systems.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod changes;
mod chown;
mod copy;
mod export;
mod export_layers;
mod layered;
mod mounted;
mod round_trip;
mod stack;
mod support;
mod usage;
