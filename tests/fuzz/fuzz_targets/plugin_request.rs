//! Requests of the plugin protocol, as a server reads them from a connection.

#![no_main]

#[path = "../../../crates/plugin/tests/wire/requests.rs"]
mod requests;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| requests::check(bytes));
