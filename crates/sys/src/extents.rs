//! Where the blocks of a file are.

use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use bitflags::bitflags;
use nix::Result;
use nix::errno::Errno;

use crate::syscall;

/// A run of bytes of a file that lie together on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Extent {
    /// Where it is in the file, in bytes.
    pub logical: u64,
    /// Where it is on the device (on btrfs: in the file system's own address space), in bytes.
    pub physical: u64,
    /// How long it is, in bytes.
    pub length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

impl Extent {
    /// What is known of it.
    pub fn flags(&self) -> ExtentFlags {
        ExtentFlags::from_bits_retain(self.flags)
    }
}

bitflags! {
    /// What is known of an extent (`FIEMAP_EXTENT_*`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ExtentFlags: u32 {
        /// The last one of the file.
        const LAST = 0x1;
        /// `physical` means nothing: not allocated yet, or not on a device.
        const UNKNOWN = 0x2;
        /// The contents lie among the file system's own metadata.
        const DATA_INLINE = 0x200;
        /// Space is reserved, but reads as zeroes.
        const UNWRITTEN = 0x800;
        /// Some other file has these blocks too.
        const SHARED = 0x2000;
        const _ = !0;
    }
}

/// The extents of the regular file `file` that lie in the range of `length` bytes from `start`, or reach into it, in the order of their places in the file; what is in none of them is a hole.
///
/// What the kernel has not written yet is written first, so that the places are known.
///
/// # Errors
///
/// - `EOPNOTSUPP` or `ENOTTY`: the file system does not tell.
/// - `EFBIG`, `EIO`, as the kernel's
///   [description of the interface](https://docs.kernel.org/filesystems/fiemap.html) says.
#[doc(alias = "FIEMAP")]
#[doc(alias = "FS_IOC_FIEMAP")]
pub fn extents(file: impl AsFd, start: u64, length: u64) -> Result<Vec<Extent>> {
    let (file, end) = (file.as_fd(), start.saturating_add(length));
    let (mut found, mut start): (Vec<Extent>, _) = (Vec::new(), start);
    while start < end {
        let mut request = Request::new(start, end - start);
        request.ask(file)?;
        let mapped = usize::try_from(request.head.mapped).unwrap_or(BATCH).min(BATCH);
        let Some(last) = request.extents[..mapped].last() else { break };
        let next = last.logical.saturating_add(last.length);
        let is_last = last.flags().contains(ExtentFlags::LAST) || next <= start;
        found.extend_from_slice(&request.extents[..mapped]);
        if is_last || mapped < BATCH {
            break;
        }
        start = next;
    }
    Ok(found)
}

/// How many extents are asked for at once.
const BATCH: usize = 72;

/// `struct fiemap` of `linux/fiemap.h` up to its records.
#[derive(Default)]
#[repr(C)]
struct Head {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
}

#[repr(C)]
struct Request {
    head: Head,
    extents: [Extent; BATCH],
}

impl Request {
    fn new(start: u64, length: u64) -> Self {
        // Lossless: a small constant.
        #[allow(clippy::cast_possible_truncation, reason = "a constant far below the limit")]
        let head = Head { start, length, flags: FIEMAP_FLAG_SYNC, count: BATCH as u32, ..Head::default() };
        Self { head, extents: [Extent::default(); BATCH] }
    }

    fn ask(&mut self, file: BorrowedFd<'_>) -> Result<()> {
        syscall::retry_on_interrupt(|| {
            // SAFETY: the kernel reads and writes a header and, as `count` says, `BATCH` records after it, which is what a `Request` is.
            let returned = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP, &raw mut *self) };
            Errno::result(returned).map(drop)
        })
    }
}

const _: () =
    assert!(size_of::<Head>() == 32 && size_of::<Extent>() == 56 && size_of::<Request>() == 32 + 56 * BATCH);

const FS_IOC_FIEMAP: libc::Ioctl = libc::_IOWR::<Head>(b'f' as u32, 11);
const FIEMAP_FLAG_SYNC: u32 = 0x1;

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::test_dir;

    /// More of them than fit one call, at known places of the file.
    #[test]
    fn every_extent_is_found_in_order() {
        let dir = test_dir::on_disk();
        let file = File::create_new(dir.path().join("sparse")).unwrap();
        let places: Vec<u64> = (0..200).map(|number| number << 20).collect();
        for place in &places {
            file.write_all_at(&[b'x'; 4096], *place).unwrap();
        }
        let found = match extents(&file, 0, u64::MAX) {
            // The file system tells nobody; those of the tests of `archive` do.
            Err(Errno::EOPNOTSUPP | Errno::ENOTTY) => return,
            found => found.unwrap(),
        };
        let logical: Vec<_> = found.iter().map(|extent| extent.logical).collect();
        assert_eq!(logical, places);
        assert!(
            found.iter().all(|extent| extent.physical != 0 && !extent.flags().contains(ExtentFlags::UNKNOWN))
        );
        assert!(found.last().unwrap().flags().contains(ExtentFlags::LAST));
        let some = extents(&file, places[3], 4096).unwrap();
        assert_eq!(some.iter().map(|extent| extent.logical).collect::<Vec<_>>(), [places[3]]);
    }

    #[test]
    fn an_empty_file_has_none() {
        let dir = test_dir::on_disk();
        let file = File::create_new(dir.path().join("empty")).unwrap();
        match extents(&file, 0, u64::MAX) {
            Err(errno) => assert!(matches!(errno, Errno::EOPNOTSUPP | Errno::ENOTTY), "{errno}"),
            Ok(found) => assert_eq!(found, []),
        }
    }
}
