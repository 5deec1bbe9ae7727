//! Numbers and times in tar headers and PAX records. No I/O.

/// A point in time: whole seconds since 1970 (negative before it) and nanoseconds after them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp {
    pub(crate) seconds: i64,
    /// Below 1,000,000,000; counts forward, before 1970 too.
    pub(crate) nanoseconds: u32,
}
