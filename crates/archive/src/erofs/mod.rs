//! Trees of metadata as one file: read-only images of the EROFS file system, whose regular files have their contents elsewhere.
//!
//! Format: [erofs.rst](https://docs.kernel.org/filesystems/erofs.html) and `fs/erofs/erofs_fs.h` of Linux; the first 32 bytes, before the superblock, are those of a
//! [composefs](https://github.com/containers/composefs) image. What overlay's attributes say of a file's contents is what such images say.
//!
//! | file | answers |
//! |---|---|
//! | `pack` | how does a layer's directory become an image and objects? |
//! | `tree` | what is in an image? |
//! | `layout` | where in the image is it? |
//! | `write` | in which bytes? |
//! | `directory`, `attributes` | those of names and of extended attributes |

mod attributes;
mod directory;
mod layout;
mod pack;
#[cfg(test)]
mod tests;
mod tree;
mod write;

pub use self::pack::{Packed, pack};

/// Bytes of a block.
const BLOCK_BYTES: usize = 4096;
const BLOCK: u64 = BLOCK_BYTES as u64;
/// Inodes are numbered by their place, in units of so many bytes.
const SLOT: u64 = 32;

/// `place` or the next multiple of `unit` after it.
fn align(place: u64, unit: u64) -> u64 {
    place.div_ceil(unit) * unit
}
