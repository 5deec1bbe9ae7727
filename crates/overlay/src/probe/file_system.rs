//! Whether a file system can be below overlay.

use std::fs;
use std::path::Path;

use graphdriver_archive::whiteout::OverlayXattrs;
use graphdriver_core::{Error, FsMagic, Result, fs_magic};
use graphdriver_sys::FileType;
use graphdriver_sys::dents::{Buffer, Dents};
use nix::errno::Errno;

use super::incompatible;
use super::trial::{Trial, mark_opaque};

/// File systems that overlay cannot have below it: union file systems, and eCryptfs.
const REFUSED: [FsMagic; 3] = [FsMagic::AUFS, FsMagic::ECRYPTFS, FsMagic::OVERLAY];

pub(super) fn check_type(scratch: &Path, backing: FsMagic, initial_namespace: bool) -> Result<()> {
    if REFUSED.contains(&backing) {
        return Err(incompatible(scratch, backing, "overlay cannot have it below"));
    }
    if backing.is_network() && !initial_namespace {
        return Err(incompatible(
            scratch,
            backing,
            "a network file system does not work in a user namespace",
        ));
    }
    Ok(())
}

/// Overlay tells whiteouts by the file type that a directory entry carries. `dir` has an entry.
pub(super) fn check_file_types(dir: &Path) -> Result<()> {
    let failed = |errno| Error::syscall("read directory", dir, errno);
    let open = fs::File::open(dir).map_err(|error| Error::io("open", dir, error))?;
    let mut buffer = Buffer::new();
    let mut entries = Dents::new(&open, &mut buffer);
    while let Some(entry) = entries.next_entry().map_err(failed)? {
        if entry.file_type == FileType::Unknown {
            let advice = "directory entries carry no file types there; format it with ftype=1 (xfs) or -O filetype (ext4)";
            return Err(incompatible(dir, fs_magic(dir)?, advice));
        }
    }
    Ok(())
}

/// Overlay marks opaque directories with an extended attribute; tmpfs has those of users since Linux 6.6.
pub(super) fn check_xattrs(trial: &Trial, backing: FsMagic, xattrs: OverlayXattrs) -> Result<()> {
    match mark_opaque(&trial.other, xattrs) {
        Ok(()) => Ok(()),
        Err(Errno::EOPNOTSUPP) => {
            let advice = format!("it cannot store the attribute {:?}", xattrs.opaque());
            Err(incompatible(&trial.upper, backing, &advice))
        }
        Err(errno) => Err(Error::syscall("setxattr", &trial.upper, errno)),
    }
}
