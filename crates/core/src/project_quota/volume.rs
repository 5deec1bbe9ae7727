//! Which file system is asked, by which system call, and whether it can answer.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use graphdriver_archive::RootDir;
use graphdriver_sys::capability::{Capability, has_effective};
use graphdriver_sys::project_quota::{self, Volume, is_possible, state};
use graphdriver_sys::user_namespace;
use nix::errno::Errno;
use nix::sys::stat::{fstat, major, minor};

use super::unavailable::Unavailable;
use crate::error::{Error, ErrorKind, Result};
use crate::fs_magic::fs_magic_of_fd;

/// How the kernel is asked about quotas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaCall {
    /// `quotactl_fd(2)`, by a file of the file system; Linux 5.14.
    File,
    /// `quotactl(2)`, by the block device, of which there must be a node below `/dev`.
    Device,
}

impl QuotaCall {
    /// The call that the kernel has.
    pub(super) fn best() -> Self {
        if project_quota::takes_files() { Self::File } else { Self::Device }
    }
}

/// The file system of a home, which has project quotas.
#[derive(Debug)]
pub(super) struct OpenVolume {
    /// The node of the block device; none where the file system is asked through the home.
    device: Option<PathBuf>,
}

impl OpenVolume {
    /// Finds out whether the file system of `home` counts and limits projects.
    pub(super) fn open(call: QuotaCall, home: &RootDir) -> Result<Self, Unavailable> {
        check_privilege()?;
        let magic = fs_magic_of_fd(home).map_err(|error| error.path(home.path()))?;
        let device = match call {
            QuotaCall::File => None,
            QuotaCall::Device => Some(device_of(home)?.ok_or(Unavailable::NoDevice(magic))?),
        };
        let open = Self { device };
        let volume = open.get(home);
        let failed = |errno| Error::syscall("quotactl", home.path(), errno);
        match state(volume) {
            Ok(state) if state.counted && state.enforced => {}
            Ok(state) if state.counted => return Err(Unavailable::NotEnforced),
            Ok(_) | Err(Errno::ENOSYS | Errno::EINVAL | Errno::ESRCH) => {
                let possible = is_possible(volume).map_err(failed)?;
                return Err(if possible { Unavailable::Off(magic) } else { Unavailable::Impossible(magic) });
            }
            Err(errno) => return Err(denied(errno).unwrap_or_else(|| failed(errno).into())),
        }
        // Reading a project's counters needs what setting its limits does.
        project_quota::record(volume, 1)
            .map_err(|errno| denied(errno).unwrap_or_else(|| failed(errno).into()))?;
        Ok(open)
    }

    pub(super) fn get<'a>(&'a self, home: &'a RootDir) -> Volume<'a> {
        self.device.as_deref().map_or(Volume::File(home.as_fd()), Volume::Device)
    }
}

fn check_privilege() -> Result<(), Unavailable> {
    let failed = |call| move |error: io::Error| Error::new(ErrorKind::Io, call).source(error);
    if !user_namespace::in_initial().map_err(failed("find user namespace"))? {
        return Err(Unavailable::UserNamespace);
    }
    let privileged = has_effective(Capability::SysAdmin).map_err(|errno| failed("capget")(errno.into()))?;
    if privileged { Ok(()) } else { Err(Unavailable::Privilege) }
}

fn denied(errno: Errno) -> Option<Unavailable> {
    matches!(errno, Errno::EPERM | Errno::EACCES).then_some(Unavailable::Privilege)
}

/// A node of the block device that the home's file system is on.
fn device_of(home: &RootDir) -> Result<Option<PathBuf>> {
    let device = fstat(home).map_err(|errno| Error::syscall("fstat", home.path(), errno))?.st_dev;
    let number = format!("{}:{}", major(device), minor(device));
    let by_number = PathBuf::from("/dev/block").join(&number);
    let by_name = fs::read_to_string(format!("/sys/dev/block/{number}/uevent")).ok();
    let by_name = by_name.as_deref().and_then(device_name).map(|name| PathBuf::from("/dev").join(name));
    let is_node = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|node| node.file_type().is_block_device() && node.rdev() == device)
    };
    Ok([Some(by_number), by_name].into_iter().flatten().find(is_node))
}

/// The name below `/dev`, from the text of a device's `uevent` file.
fn device_name(uevent: &str) -> Option<&str> {
    uevent.lines().find_map(|line| line.strip_prefix("DEVNAME="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices() {
        for (uevent, name) in [
            ("MAJOR=254\nMINOR=0\nDEVNAME=vda\nDEVTYPE=disk\n", Some("vda")),
            ("DEVNAME=mapper/home\n", Some("mapper/home")),
            ("MAJOR=254\nNOTDEVNAME=vda\n", None),
            ("", None),
        ] {
            assert_eq!(device_name(uevent), name, "{uevent:?}");
        }
    }

    /// A file system that is on no device has no node.
    #[test]
    fn memory_is_no_device() {
        assert_eq!(device_of(&RootDir::open("/dev/shm").unwrap()).unwrap(), None);
    }
}
