//! Buffers that the archive is read into and files are written from, without a copy between.

use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of one buffer: a multiple of the tar block, so that a header never lies across two.
pub(crate) const BUFFER_BYTES: usize = 256 << 10;

/// A bounded set of buffers. Those given back are used first, so that what is touched stays small while writers keep up.
#[derive(Debug)]
pub(crate) struct Pool {
    limit: usize,
    state: Mutex<PoolState>,
}

#[derive(Debug, Default)]
struct PoolState {
    free: Vec<Vec<u8>>,
    lent: usize,
}

/// A buffer of a [`Pool`], given back when dropped.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    pool: Arc<Pool>,
}

/// Part of a shared [`Buffer`], which stays lent as long as any part lives.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    buffer: Arc<Buffer>,
    range: Range<usize>,
}

impl Pool {
    /// At most `limit` buffers, made when first needed.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, state: Mutex::default() })
    }

    /// A buffer of [`BUFFER_BYTES`] bytes of whatever content; `None` while all are lent.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Buffer> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.lent == self.limit {
            return None;
        }
        state.lent += 1;
        let free = state.free.pop();
        drop(state);
        let bytes = free.unwrap_or_else(|| vec![0; BUFFER_BYTES]);
        Some(Buffer { bytes, pool: Arc::clone(self) })
    }
}

impl Buffer {
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.lent -= 1;
        state.free.push(std::mem::take(&mut self.bytes));
    }
}

impl Slice {
    pub(crate) fn new(buffer: Arc<Buffer>, range: Range<usize>) -> Self {
        Self { buffer, range }
    }
}

impl Deref for Slice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer.bytes[self.range.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lends_no_more_than_the_limit_and_the_last_slice_gives_back() {
        let pool = Pool::new(2);
        let mut first = pool.take().unwrap();
        first.as_mut_slice()[..3].copy_from_slice(b"abc");
        let first = Arc::new(first);
        let slices = [Slice::new(Arc::clone(&first), 0..1), Slice::new(first, 1..3)];
        let second = pool.take().unwrap();
        assert!(pool.take().is_none());
        assert_eq!((&slices[0][..], &slices[1][..]), (&b"a"[..], &b"bc"[..]));
        let [one, other] = slices;
        drop(one);
        assert!(pool.take().is_none());
        drop(other);
        let again = pool.take().unwrap();
        assert_eq!(again.bytes[..3], *b"abc", "the buffer given back is lent again");
        drop((second, again));
    }
}
