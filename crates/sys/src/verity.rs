//! Files whose contents the kernel guards: fs-verity.
//!
//! See [fsverity.rst](https://docs.kernel.org/filesystems/fsverity.html). Linux 5.4; ext4 with the feature `verity`, f2fs, and btrfs (5.15), in kernels that are built with it.

use std::os::fd::{AsFd, AsRawFd};

use nix::Result;
use nix::errno::Errno;

use crate::syscall;

/// Bytes of a SHA-256 digest.
pub const DIGEST_BYTES: usize = 32;

/// Unit in which files are hashed: what every architecture has.
const BLOCK_BYTES: u32 = 4096;
const SHA256: u32 = 1;

/// `struct fsverity_enable_arg` of linux/fsverity.h, which libc lacks.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct EnableArg {
    version: u32,
    hash_algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt_ptr: u64,
    sig_size: u32,
    reserved1: u32,
    sig_ptr: u64,
    reserved2: [u64; 11],
}

/// `struct fsverity_digest` with room for the digest.
#[derive(Clone, Copy)]
#[repr(C)]
struct Measured {
    algorithm: u16,
    size: u16,
    digest: [u8; DIGEST_BYTES],
}

mod ioctl {
    use super::EnableArg;

    nix::ioctl_write_ptr!(enable, b'f', 133, EnableArg);
}

/// `FS_IOC_MEASURE_VERITY`; the size in the number is that of the head of the structure.
const MEASURE: libc::c_ulong = nix::request_code_readwrite!(b'f', 134, 4);

/// Makes a regular file one that cannot be changed any more, and of which the kernel checks each block that is read, with SHA-256. It can still be
/// removed, renamed, and have its mode and owner changed.
///
/// The file is open for reading, and nobody has it open for writing.
///
/// # Errors
///
/// `ENOTTY` or `EOPNOTSUPP` where the kernel or the file system cannot; `EEXIST` when it is one already; `ETXTBSY` while somebody has it open for writing; `EACCES`, `EPERM`,
/// `EROFS`, `ENOSPC`.
#[doc(alias = "FS_IOC_ENABLE_VERITY")]
#[doc(alias = "EnableVerity")]
pub fn enable(file: impl AsFd) -> Result<()> {
    let argument =
        EnableArg { version: 1, hash_algorithm: SHA256, block_size: BLOCK_BYTES, ..EnableArg::default() };
    let raw = file.as_fd().as_raw_fd();
    syscall::retry_on_interrupt(|| {
        // SAFETY: the request reads one `struct fsverity_enable_arg`, which `argument` is; its lengths say that no pointer in it is followed.
        unsafe { ioctl::enable(raw, &raw const argument) }.map(drop)
    })
}

/// The digest by which the kernel checks the file: of the tree of its blocks' hashes, so not the SHA-256 of its contents.
///
/// # Errors
///
/// `ENODATA` for a file that is not guarded; `EOVERFLOW` for one with a longer digest, `EBADMSG` for one with another of this length; `ENOTTY` or `EOPNOTSUPP` where the kernel or
/// the file system cannot.
#[doc(alias = "FS_IOC_MEASURE_VERITY")]
#[doc(alias = "MeasureVerity")]
pub fn measure(file: impl AsFd) -> Result<[u8; DIGEST_BYTES]> {
    let size = u16::try_from(DIGEST_BYTES).unwrap_or(u16::MAX);
    let mut measured = Measured { algorithm: 0, size, digest: [0; DIGEST_BYTES] };
    // SAFETY: the request writes a head of four bytes and at most as many bytes after it as the head says, which `measured` has room for.
    let returned = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), MEASURE, &raw mut measured) };
    Errno::result(returned)?;
    if u32::from(measured.algorithm) != SHA256 || measured.size != size {
        return Err(Errno::EBADMSG);
    }
    Ok(measured.digest)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;
    use crate::test_dir;

    #[test]
    fn requests_are_those_of_the_kernel() {
        assert_eq!((size_of::<EnableArg>(), size_of::<Measured>()), (128, 36));
        assert_eq!(MEASURE, 0xC004_6686);
    }

    /// Which answer is right depends on the kernel and the file system; that a guarded file cannot be written to does not.
    #[test]
    fn a_file_is_guarded_or_the_reason_is_given() {
        let dir = test_dir::on_disk();
        let path = dir.path().join("file");
        fs::write(&path, b"contents").unwrap();
        let file = File::open(&path).unwrap();
        match enable(&file) {
            Ok(()) => {
                let digest = measure(&file).unwrap();
                assert_eq!(measure(&file), Ok(digest));
                assert_eq!(enable(&file), Err(Errno::EEXIST));
                File::options().write(true).open(&path).unwrap_err();
                assert_eq!(fs::read(&path).unwrap(), b"contents");
            }
            Err(errno) => {
                assert!(matches!(errno, Errno::ENOTTY | Errno::EOPNOTSUPP), "{errno}");
                assert!(measure(&file).is_err());
                fs::write(&path, b"changed").unwrap();
            }
        }
        fs::remove_file(&path).unwrap();
    }
}
