//! Tar streams: headers of every kind that layers come in are read, PAX and ustar ones are written.
//!
//! | file | answers |
//! |---|---|
//! | [`header`] | what does a header block say? |
//! | [`number`] | numbers and times, as fields and as text |
//! | [`pax`] | records of PAX extended headers, read and written |
//! | [`extended`] | what do extension headers say about an entry? |
//! | [`sparse`] | which parts of a sparse file does the archive hold? |
//! | [`read`] | entry after entry of a stream |
//! | [`write`] | which header blocks does an entry need? |
//! | [`buffer`] | where the stream's bytes are kept |
//!
//! Only [`read`] does I/O; all others take bytes.

pub(crate) mod buffer;
pub(crate) mod extended;
pub(crate) mod header;
pub(crate) mod number;
pub(crate) mod pax;
pub(crate) mod read;
pub(crate) mod sparse;
pub(crate) mod write;
