//! Whether two files are the same blocks.

use std::fs::File;

use graphdriver_sys::extents::{Extent, ExtentFlags, extents};

/// How much of the files is looked at at once, so that what is kept of them stays small however scattered they are.
const WINDOW_BYTES: u64 = 256 << 20;

/// Whether the first `bytes` of both files, which are on one file system, are the same blocks and the same holes. False where that cannot be told.
pub(super) fn are_same(one: &File, other: &File, bytes: u64) -> bool {
    let mut start = 0;
    while start < bytes {
        let window = WINDOW_BYTES.min(bytes - start);
        let (Ok(one), Ok(other)) = (extents(one, start, window), extents(other, start, window)) else {
            return false;
        };
        let told = |extents: &[Extent]| extents.iter().all(is_told);
        let places = |extents: &[Extent]| extents.iter().map(place).collect::<Vec<_>>();
        if !told(&one) || places(&one) != places(&other) {
            return false;
        }
        start += window;
    }
    true
}

/// Whether where the blocks are says what is in them: not so for compressed and encrypted ones, of which a file can have any part, nor for contents among metadata.
fn is_told(extent: &Extent) -> bool {
    const UNWRITTEN: ExtentFlags = ExtentFlags::UNWRITTEN;
    /// `FIEMAP_EXTENT_MERGED`: several that follow each other, told as one.
    const MERGED: ExtentFlags = ExtentFlags::from_bits_retain(0x1000);
    let harmless = ExtentFlags::LAST | UNWRITTEN | MERGED | ExtentFlags::SHARED;
    harmless.contains(extent.flags())
}

fn place(extent: &Extent) -> (u64, u64, u64, bool) {
    let is_unwritten = extent.flags().contains(ExtentFlags::UNWRITTEN);
    (extent.logical, extent.physical, extent.length, is_unwritten)
}
