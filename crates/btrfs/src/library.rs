//! What only libbtrfsutil finds out: which subvolume is a snapshot of which, before Linux 4.18. It searches the tree of subvolumes itself, for which it needs `CAP_SYS_ADMIN`.
//!
//! Of the crate `btrfsutil` no more than this is used: its wrappers that take quota groups or return paths are unsound.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use btrfsutil::subvolume::Subvolume;
use graphdriver_archive::RootDir;
use graphdriver_core::{Error, ErrorKind, Result};

use crate::subvolume::Identity;

/// Which subvolume `root` is.
///
/// # Errors
/// `Io`, in the library's words.
pub(crate) fn identity(root: &RootDir) -> Result<Identity> {
    // The library takes paths; this one leads to what is open already.
    let path = format!("/proc/self/fd/{}", root.as_fd().as_raw_fd());
    let info = Subvolume::get(Path::new(&path)).and_then(|subvolume| subvolume.info());
    let info = info.map_err(|error| {
        Error::new(ErrorKind::Io, "look at subvolume").path(root.path()).detail(error.to_string())
    })?;
    Ok(Identity { uuid: *info.uuid.as_bytes(), parent: info.parent_uuid.map(|uuid| *uuid.as_bytes()) })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use graphdriver_sys::btrfs::subvolume::{self, SubvolumeFlags};
    use nix::mount::{MntFlags, umount2};

    use super::*;

    #[test]
    #[ignore = "needs root"]
    fn the_library_and_the_kernel_agree() {
        let image = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
        image.as_file().set_len(256 << 20).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let run = |command: &mut Command| assert!(command.status().unwrap().success(), "{command:?}");
        run(Command::new("mkfs.btrfs")
            .env("PATH", "/usr/bin:/usr/sbin:/bin:/sbin")
            .arg("-q")
            .arg(image.path()));
        run(Command::new("mount").args(["-t", "btrfs", "-o", "loop"]).arg(image.path()).arg(dir.path()));
        let volume = RootDir::open(dir.path()).unwrap();
        subvolume::create(&volume, "base").unwrap();
        let base = volume.subdir(Path::new("base")).unwrap();
        subvolume::snapshot(&volume, "child", &base, SubvolumeFlags::empty()).unwrap();
        let child = volume.subdir(Path::new("child")).unwrap();
        let both = |root: &RootDir| (identity(root).unwrap(), Identity::from(subvolume::info(root).unwrap()));
        let identities = [both(&base), both(&child)];
        drop((volume, base, child));
        umount2(dir.path(), MntFlags::MNT_DETACH).unwrap();
        for (library, kernel) in identities {
            assert_eq!(library, kernel);
        }
        assert_eq!(identities[1].0.parent, Some(identities[0].0.uuid));
    }
}
