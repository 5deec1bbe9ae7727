//! Reading what should not be long.

use std::io::{self, Read};

/// The rest of `body`, of at most `limit` bytes.
///
/// # Errors
/// `FileTooLarge` when there is more.
pub(crate) fn read_limited(body: &mut impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    body.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}
