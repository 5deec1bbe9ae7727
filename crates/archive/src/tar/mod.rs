//! Tar streams.
//!
//! | file | answers |
//! |---|---|
//! | [`number`] | numbers and times, as fields and as text |
//! | [`pax`] | records of PAX extended headers |
//! | [`write`] | which header blocks does an entry need? |

pub(crate) mod number;
pub(crate) mod pax;
pub(crate) mod write;
