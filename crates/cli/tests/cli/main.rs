//! The built program, as people and scripts use it.

#![allow(clippy::unwrap_used, reason = "a test helper that fails fails the test")]

mod image;
mod import;
mod layers;
mod migrate;
mod ordinary_user;
mod plugin;
mod run;
mod store;
mod usage;
