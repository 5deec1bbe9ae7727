//! Making two files share what is equal.

use std::fs::File;

use graphdriver_sys::dedupe_range::{Dedupe, MAX_DEDUPE_BYTES};
use graphdriver_sys::extents::ExtentFlags;
use graphdriver_sys::{dedupe_range, extents};
use nix::errno::Errno;

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// They share all their blocks, from now on or since before.
    Shares,
    /// They are not equal, though they may share a part now.
    Differs,
    /// The file system does not share the blocks of these, or they have none.
    NotThese,
    /// The file system shares no blocks at all.
    NotHere,
}

/// Lets `to` share the blocks of `from`, both of `size` bytes; adds to `bytes` what was stored twice before.
pub(super) fn share(from: &File, to: &File, size: u64, bytes: &mut u64) -> nix::Result<Outcome> {
    let mut offset = 0;
    while offset < size {
        let length = MAX_DEDUPE_BYTES.min(size - offset);
        match (blocks(from, offset, length), blocks(to, offset, length)) {
            (Some(Blocks::Inline), _) | (_, Some(Blocks::Inline)) => return Ok(Outcome::NotThese),
            (Some(from), Some(to)) if from == to => {
                offset += length;
                continue;
            }
            _ => {}
        }
        match dedupe_range(from, to, offset, length) {
            Ok(Dedupe::Shared(0)) => return Ok(Outcome::NotThese),
            Ok(Dedupe::Shared(shared)) => {
                *bytes += shared;
                offset += shared;
            }
            Ok(Dedupe::Differs) => return Ok(Outcome::Differs),
            Err(Errno::EOPNOTSUPP | Errno::ENOTTY | Errno::EXDEV) => return Ok(Outcome::NotHere),
            // Swap files, running programs, files that must not change, one that lost its tail meanwhile.
            Err(errno @ (Errno::EINVAL | Errno::EPERM | Errno::EACCES | Errno::ETXTBSY | Errno::EROFS)) => {
                tracing::debug!(%errno, offset, "a pair of equal files stays apart");
                return Ok(Outcome::NotThese);
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(Outcome::Shares)
}

/// Where a range of a file is stored.
#[derive(Debug, PartialEq, Eq)]
enum Blocks {
    /// Among the file system's metadata, so there are no blocks.
    Inline,
    /// Runs of bytes: their starts in the file and on the device, and their lengths.
    At(Vec<(u64, u64, u64)>),
}

/// `None` where the file system does not tell.
fn blocks(file: &File, offset: u64, length: u64) -> Option<Blocks> {
    let end = offset + length;
    let mut runs: Vec<(u64, u64, u64)> = Vec::new();
    for extent in extents(file, offset, length).ok()? {
        if extent.flags().contains(ExtentFlags::DATA_INLINE) {
            return Some(Blocks::Inline);
        }
        if extent.flags().contains(ExtentFlags::UNKNOWN) {
            return None;
        }
        // How a run is cut into extents is no difference, nor what lies outside of the range.
        let start = extent.logical.max(offset);
        let physical = extent.physical.saturating_add(start - extent.logical);
        let bytes = extent.logical.saturating_add(extent.length).min(end).saturating_sub(start);
        match runs.last_mut() {
            Some((logical, device, run))
                if *logical + *run == start && device.saturating_add(*run) == physical =>
            {
                *run += bytes;
            }
            _ => runs.push((start, physical, bytes)),
        }
    }
    Some(Blocks::At(runs))
}
