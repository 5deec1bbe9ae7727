//! Making subvolumes, and telling what they are.

use std::path::Path;

use graphdriver_archive::RootDir;
use graphdriver_core::{Error, Result};
use graphdriver_sys::btrfs::subvolume::{self, SubvolumeFlags, SubvolumeInfo, Uuid};
use nix::errno::Errno;

#[cfg(feature = "libbtrfsutil")]
use crate::library;

/// Makes an empty subvolume in `dir`.
///
/// # Errors
/// `NoSpace`, `PermissionDenied`, `Io` (`EEXIST`).
pub(crate) fn create(dir: &RootDir, name: &str) -> Result<RootDir> {
    let path = dir.path().join(name);
    subvolume::create(dir, name).map_err(|errno| Error::syscall("create subvolume", &path, errno))?;
    Ok(dir.subdir(Path::new(name))?)
}

/// Makes a snapshot of the subvolume `source` in `dir`.
///
/// # Errors
/// `NoSpace`; `PermissionDenied` when the source belongs to somebody else; `Io` (`EEXIST`; `EINVAL` when the source is no subvolume).
pub(crate) fn snapshot(
    dir: &RootDir,
    name: &str,
    source: &RootDir,
    flags: SubvolumeFlags,
) -> Result<RootDir> {
    let path = dir.path().join(name);
    let of = |error: Error| error.detail(format!("of {:?}", source.path()));
    subvolume::snapshot(dir, name, source, flags)
        .map_err(|errno| of(Error::syscall("create snapshot", &path, errno)))?;
    Ok(dir.subdir(Path::new(name))?)
}

/// Which subvolume `root` is, and of which it is a snapshot; nothing, where that is a directory that somebody put there.
///
/// # Errors
/// `Io` (`ENOENT` for a subvolume that was destroyed meanwhile).
pub(crate) fn identity(root: &RootDir) -> Result<Option<Identity>> {
    match known_of(root) {
        #[cfg(feature = "libbtrfsutil")]
        Err(error) if error.errno() == Some(Errno::ENOTTY) => library::identity(root).map(Some),
        info => Ok(info?.map(Identity::from)),
    }
}

/// What the file system knows of a subvolume; nothing of a directory that somebody put there.
///
/// # Errors
/// `NotSupported` (`ENOTTY`) before Linux 4.18; `Io` (`ENOENT` for a subvolume that was destroyed meanwhile).
pub(crate) fn known_of(root: &RootDir) -> Result<Option<SubvolumeInfo>> {
    let failed = |call| move |errno| Error::syscall(call, root.path(), errno);
    // Of a directory, this would tell about the subvolume that it is in.
    if !subvolume::is_subvolume(root).map_err(failed("fstatfs"))? {
        return Ok(None);
    }
    let info = match subvolume::info(root) {
        Err(Errno::ENOENT) => {
            wait_for_rename(root);
            subvolume::info(root)
        }
        info => info,
    };
    info.map(Some).map_err(failed("look at subvolume"))
}

/// Lets a rename of the subvolume end.
///
/// Within one, btrfs takes the old name away before it gives the new one, and knows nothing of a subvolume without name. Reading the directory waits for the lock that renames in it hold.
fn wait_for_rename(root: &RootDir) {
    if let Some(mut names) = root.path().parent().and_then(|dir| dir.read_dir().ok()) {
        names.next();
    }
}

/// By what a subvolume is told from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uuid: Uuid,
    /// That of the subvolume that it is a snapshot of.
    pub(crate) parent: Option<Uuid>,
}

impl From<SubvolumeInfo> for Identity {
    fn from(info: SubvolumeInfo) -> Self {
        Self { uuid: info.uuid, parent: info.parent }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Barrier;
    use std::thread;

    use super::*;
    use crate::test_volume::TestVolume;

    #[test]
    #[ignore = "needs root"]
    fn is_known_while_it_is_renamed() {
        const RENAMES: usize = 200;
        let volume = TestVolume::new("");
        let places = ["here", "there"].map(|name| volume.path().join(name).join("layer"));
        for place in &places {
            fs::create_dir(place.parent().unwrap()).unwrap();
        }
        let here = RootDir::open(places[0].parent().unwrap()).unwrap();
        let known = identity(&create(&here, "layer").unwrap()).unwrap();
        let turn = Barrier::new(2);
        let [from, to] = &places;
        let found = thread::scope(|scope| {
            let renames = scope.spawn(|| {
                for _ in 0..RENAMES {
                    turn.wait();
                    fs::rename(from, to).unwrap();
                    turn.wait();
                    fs::rename(to, from).unwrap();
                }
            });
            let mut found = Vec::new();
            for _ in 0..RENAMES {
                let root = RootDir::open(from).unwrap();
                turn.wait();
                while from.exists() {
                    found.push(identity(&root));
                }
                turn.wait();
                while !from.exists() {}
            }
            renames.join().unwrap();
            found
        });
        for identity in found {
            assert_eq!(identity.unwrap(), known);
        }
    }
}
