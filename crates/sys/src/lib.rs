//! Linux kernel interfaces that the graphdriver crates need and `nix` lacks.
//!
//! The only crate of the family with `unsafe`. One file per interface; each wrapper names the manual page it follows and
//! takes file descriptors, so that no path is resolved twice.
