//! The client against plugins as others write them: answers that were written down, and what was asked for.

#![allow(clippy::unwrap_used, reason = "tests")]

mod fake;
mod foreign;
