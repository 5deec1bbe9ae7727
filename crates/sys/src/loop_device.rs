//! Files as block devices, for file systems that cannot be mounted from a file.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

/// How often another device is tried when somebody else took the one that was free.
const TRIES: usize = 64;

/// A loop device on a file, open. The kernel frees the device when nobody has it open any more: this value, or a file system that was mounted from it.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    _device: File,
}

impl LoopDevice {
    /// Gives a regular file, open for reading, a device that can only be read.
    ///
    /// Needs `CAP_SYS_ADMIN` in the initial user namespace, and `/dev/loop-control`. Linux 5.8. See [loop(4)](https://man7.org/linux/man-pages/man4/loop.4.html).
    ///
    /// # Errors
    ///
    /// `ENOENT` or `ENODEV` where there are no loop devices; `EACCES`, `EPERM`; `EBUSY` when others took every device that was free; `EINVAL` for a file that cannot
    /// be one's contents, and before Linux 5.8.
    #[doc(alias = "losetup")]
    #[doc(alias = "LOOP_CONFIGURE")]
    #[doc(alias = "AttachLoopDeviceRO")]
    pub fn attach_read_only(file: impl AsFd) -> io::Result<Self> {
        let control = File::options().read(true).write(true).open("/dev/loop-control")?;
        for _ in 0..TRIES {
            let number = free_device(&control)?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = File::open(&path)?;
            match configure(&device, &file) {
                Ok(()) => return Ok(Self { path, _device: device }),
                Err(Errno::EBUSY) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(Errno::EBUSY.into())
    }

    /// The device, `/dev/loopN`.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// `linux/loop.h`, which libc lacks.
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct loop_config`.
#[derive(Clone, Copy)]
#[repr(C)]
struct LoopConfig {
    fd: u32,
    /// Zero for the usual one.
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

/// `struct loop_info64`.
#[derive(Clone, Copy)]
#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// The number of a device that nobody uses, which is made if need be.
fn free_device(control: &File) -> nix::Result<libc::c_int> {
    // SAFETY: the request takes no argument and returns a number.
    let returned = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
    Errno::result(returned)
}

fn configure(device: &File, file: impl AsFd) -> nix::Result<()> {
    let config = LoopConfig {
        fd: file.as_fd().as_raw_fd().unsigned_abs(),
        block_size: 0,
        info: LoopInfo64 {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: the request reads one `struct loop_config`, which `config` is, and outlives the call.
    let returned = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
    Errno::result(returned).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Write};
    use std::os::unix::fs::FileTypeExt;

    use super::*;
    use crate::test_dir;

    #[test]
    fn structures_are_as_long_as_the_kernel_has_them() {
        assert_eq!((size_of::<LoopInfo64>(), size_of::<LoopConfig>()), (232, 304));
    }

    #[test]
    #[ignore = "needs root"]
    fn a_device_reads_as_the_file_and_goes_with_its_last_user() {
        for dir in [test_dir::on_disk(), test_dir::on_tmpfs()] {
            let path = dir.path().join("file");
            let contents: Vec<u8> = (0..8192_u32).map(|number| (number % 251) as u8).collect();
            fs::write(&path, &contents).unwrap();
            let device = LoopDevice::attach_read_only(File::open(&path).unwrap()).unwrap();
            assert!(device.path().metadata().unwrap().file_type().is_block_device());
            let mut read = Vec::new();
            File::open(device.path()).unwrap().read_to_end(&mut read).unwrap();
            assert!(read == contents);
            let mut writer = File::options().write(true).open(device.path()).unwrap();
            writer.write_all(&[0; 512]).expect_err("only to be read");
            drop(writer);
            let name = device.path().file_name().unwrap().to_str().unwrap().to_owned();
            let backing = PathBuf::from(format!("/sys/block/{name}/loop/backing_file"));
            let told = fs::read_to_string(&backing).unwrap();
            assert_eq!(told.trim_end(), path.to_str().unwrap());
            drop(device);
            // Somebody else may have taken the device since.
            let now = fs::read_to_string(&backing).unwrap_or_default();
            assert_ne!(now.trim_end(), path.to_str().unwrap());
        }
    }
}
