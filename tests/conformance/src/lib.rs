//! What the suites of this project share: everything that can be seen of a tree, compared.

#![allow(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::missing_panics_doc,
    missing_docs,
    reason = "made for test programs: what goes wrong fails the test by panicking"
)]

pub mod tree;
