//! Why a home has no project quotas, and what to do about it.

use std::error::Error as StdError;
use std::fmt;

use crate::error::{Error, ErrorKind};
use crate::fs_magic::FsMagic;

/// Why a home has no project quotas. `Display` says it in a sentence with what to do about it.
#[derive(Debug)]
#[non_exhaustive]
#[doc(alias = "ErrQuotaNotSupported")]
pub enum Unavailable {
    /// The process is in a user namespace; the kernel lets the initial one only set quotas.
    UserNamespace,
    /// The process may not set quotas.
    Privilege,
    /// The file system has no project quotas, at least in this kernel.
    Impossible(FsMagic),
    /// The file system is mounted without them.
    Off(FsMagic),
    /// Projects are counted and not limited.
    NotEnforced,
    /// The kernel wants to be told the block device, and there is no node of it.
    NoDevice(FsMagic),
    /// Finding out failed.
    Failed(Error),
}

impl Unavailable {
    /// The error for an operation that needs a quota.
    ///
    /// Its kind is `NotSupported`, or that of the failure.
    pub fn to_error(&self, operation: &'static str) -> Error {
        let kind = match self {
            Self::Failed(error) => error.kind(),
            _ => ErrorKind::NotSupported,
        };
        Error::new(kind, operation).detail(format!("size and inodes of layers cannot be limited: {self}"))
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::UserNamespace => f.write_str(
                "project quotas cannot be set from a user namespace; run as root of the machine",
            ),
            Self::Privilege => f.write_str("setting project quotas needs CAP_SYS_ADMIN; run as root"),
            Self::Impossible(FsMagic::XFS) => {
                f.write_str("this kernel has no quotas on xfs; use one with CONFIG_XFS_QUOTA")
            }
            Self::Impossible(FsMagic::EXT) => {
                f.write_str("this kernel has no quotas on ext4; use one with CONFIG_QUOTA and CONFIG_QFMT_V2")
            }
            Self::Impossible(magic) | Self::NoDevice(magic) if !is_known(magic) => {
                write!(f, "{magic} has no project quotas; put the root on xfs or ext4")
            }
            Self::Impossible(magic) => write!(f, "this kernel has no project quotas on {magic}"),
            Self::Off(FsMagic::EXT) => f.write_str(
                "the file system is mounted without project quotas; make it by mkfs.ext4 -O quota,project (or change it by tune2fs -O quota,project \
                 -Q prjquota while it is not mounted) and mount it with -o prjquota, on a kernel with CONFIG_QFMT_V2",
            ),
            Self::Off(FsMagic::XFS) => f.write_str(
                "the file system is mounted without project quotas; unmount it and mount it with -o prjquota (a remount does not do; for the root file \
                 system, boot with rootflags=prjquota)",
            ),
            Self::Off(_) => {
                f.write_str("the file system is mounted without project quotas; mount it with -o prjquota")
            }
            Self::NotEnforced => f.write_str(
                "the file system counts projects but does not limit them; mount it with -o prjquota",
            ),
            Self::NoDevice(_) => f.write_str(
                "this kernel wants the block device of the file system, of which there is no node below /dev (Linux 5.14 needs none)",
            ),
            Self::Failed(ref error) => write!(f, "{}", error.report()),
        }
    }
}

impl StdError for Unavailable {}

impl From<Error> for Unavailable {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Whether it is a file system that can have project quotas.
fn is_known(magic: FsMagic) -> bool {
    [FsMagic::XFS, FsMagic::EXT, FsMagic::F2FS].contains(&magic)
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn each_reason_says_what_to_do() {
        let table = [
            (Unavailable::UserNamespace, "run as root of the machine"),
            (Unavailable::Privilege, "CAP_SYS_ADMIN"),
            (Unavailable::Impossible(FsMagic::XFS), "CONFIG_XFS_QUOTA"),
            (Unavailable::Impossible(FsMagic::EXT), "CONFIG_QFMT_V2"),
            (Unavailable::Impossible(FsMagic::F2FS), "no project quotas on f2fs"),
            (
                Unavailable::Impossible(FsMagic::BTRFS),
                "btrfs has no project quotas; put the root on xfs or ext4",
            ),
            (Unavailable::NoDevice(FsMagic::TMPFS), "tmpfs has no project quotas"),
            (Unavailable::NoDevice(FsMagic::XFS), "no node below /dev"),
            (Unavailable::Off(FsMagic::XFS), "rootflags=prjquota"),
            (Unavailable::Off(FsMagic::EXT), "mkfs.ext4 -O quota,project"),
            (Unavailable::Off(FsMagic::F2FS), "-o prjquota"),
            (Unavailable::NotEnforced, "mount it with -o prjquota"),
        ];
        for (reason, part) in table {
            let error = reason.to_error("create");
            assert_eq!(error.kind(), ErrorKind::NotSupported);
            let message = error.to_string();
            assert!(message.contains("cannot be limited: ") && message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_failure_keeps_its_kind() {
        let failed = Unavailable::from(Error::syscall("quotactl", "/home", Errno::EACCES));
        let error = failed.to_error("create");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("quotactl \"/home\": "), "{error}");
    }
}
