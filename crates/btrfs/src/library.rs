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
    use graphdriver_sys::btrfs::subvolume::{self, SubvolumeFlags};

    use super::*;
    use crate::test_volume::TestVolume;

    #[test]
    #[ignore = "needs root"]
    fn the_library_and_the_kernel_agree() {
        let volume = TestVolume::new("");
        let root = RootDir::open(volume.path()).unwrap();
        subvolume::create(&root, "base").unwrap();
        let base = root.subdir(Path::new("base")).unwrap();
        subvolume::snapshot(&root, "child", &base, SubvolumeFlags::empty()).unwrap();
        let child = root.subdir(Path::new("child")).unwrap();
        let both = |root: &RootDir| (identity(root).unwrap(), Identity::from(subvolume::info(root).unwrap()));
        let identities = [both(&base), both(&child)];
        for (library, kernel) in identities {
            assert_eq!(library, kernel);
        }
        assert_eq!(identities[1].0.parent, Some(identities[0].0.uuid));
    }
}
