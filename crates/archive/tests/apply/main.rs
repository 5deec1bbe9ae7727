//! Unpacking archives, on real file systems and against hostile input.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod damage;
mod formats;
mod links;
mod metadata;
mod order;
mod paths;
mod support;
mod whiteouts;
