//! Which file system a path lies on.

use std::fmt;
use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::statfs::{Statfs, fstatfs, statfs};

use crate::error::{Error, Result};

/// The number by which a file system names its type, `f_type` of [statfs(2)](https://man7.org/linux/man-pages/man2/statfs.2.html).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FsMagic(pub u32);

/// Constants and the table of names from one list, so that neither lacks what the other has.
macro_rules! magic_numbers {
    ($($(#[$doc:meta])* $constant:ident = $number:literal, $name:literal;)*) => {
        impl FsMagic {
            $($(#[$doc])* pub const $constant: Self = Self($number);)*
        }

        const NAMES: &[(FsMagic, &str)] = &[$((FsMagic::$constant, $name)),*];
    };
}

// Numbers from linux/magic.h and from the sources of file systems that are not in the kernel's tree; the names are those that the Go drivers
// print, and the kernel's where Go has none.
magic_numbers! {
    /// AUFS, the union file system.
    #[doc(alias = "FsMagicAufs")]
    AUFS = 0x6175_6673, "aufs";
    /// btrfs.
    #[doc(alias = "FsMagicBtrfs")]
    BTRFS = 0x9123_683E, "btrfs";
    /// cramfs.
    #[doc(alias = "FsMagicCramfs")]
    CRAMFS = 0x28CD_3D45, "cramfs";
    /// eCryptfs.
    #[doc(alias = "FsMagicEcryptfs")]
    ECRYPTFS = 0x0000_F15F, "ecryptfs";
    /// EROFS.
    #[doc(alias = "FsMagicEROFS")]
    EROFS = 0xE0F5_E1E2, "erofs";
    /// ext2, ext3 and ext4 alike.
    #[doc(alias = "FsMagicExtfs")]
    EXT = 0x0000_EF53, "extfs";
    /// F2FS.
    #[doc(alias = "FsMagicF2fs")]
    F2FS = 0xF2F5_2010, "f2fs";
    /// Any file system served by a program.
    #[doc(alias = "FsMagicFUSE")]
    FUSE = 0x6573_5546, "fuse";
    /// IBM Spectrum Scale.
    #[doc(alias = "FsMagicGPFS")]
    GPFS = 0x4750_4653, "gpfs";
    /// JFFS2.
    #[doc(alias = "FsMagicJffs2Fs")]
    JFFS2 = 0x0000_72B6, "jffs2";
    /// JFS.
    #[doc(alias = "FsMagicJfs")]
    JFS = 0x3153_464A, "jfs";
    /// NFS of all versions.
    #[doc(alias = "FsMagicNfsFs")]
    NFS = 0x0000_6969, "nfs";
    /// overlay.
    #[doc(alias = "FsMagicOverlay")]
    OVERLAY = 0x794C_7630, "overlayfs";
    /// ramfs.
    #[doc(alias = "FsMagicRAMFs")]
    RAMFS = 0x8584_58F6, "ramfs";
    /// `ReiserFS`.
    #[doc(alias = "FsMagicReiserFs")]
    REISERFS = 0x5265_4973, "reiserfs";
    /// SMB 1, by the old driver.
    #[doc(alias = "FsMagicSmbFs")]
    SMB = 0x0000_517B, "smb";
    /// squashfs.
    #[doc(alias = "FsMagicSquashFs")]
    SQUASHFS = 0x7371_7368, "squashfs";
    /// tmpfs.
    #[doc(alias = "FsMagicTmpFs")]
    TMPFS = 0x0102_1994, "tmpfs";
    /// No file system: what the Go drivers say where nothing is known.
    #[doc(alias = "FsMagicUnsupported")]
    UNSUPPORTED = 0x0000_0000, "unsupported";
    /// Veritas `VxFS`.
    #[doc(alias = "FsMagicVxFS")]
    VXFS = 0xA501_FCF5, "vxfs";
    /// XFS.
    #[doc(alias = "FsMagicXfs")]
    XFS = 0x5846_5342, "xfs";
    /// ZFS.
    #[doc(alias = "FsMagicZfs")]
    ZFS = 0x2FC1_2FC1, "zfs";
    /// Oracle ACFS.
    #[doc(alias = "FsMagicAcfs")]
    ACFS = 0x6163_6673, "acfs";
    /// AFS, by the kernel.
    #[doc(alias = "FsMagicAfs")]
    AFS = 0x5346_414F, "afs";
    /// Ceph.
    #[doc(alias = "FsMagicCephFs")]
    CEPH = 0x00C3_6400, "ceph";
    /// SMB 1, by the cifs driver.
    #[doc(alias = "FsMagicCIFS")]
    CIFS = 0xFF53_4D42, "cifs";
    /// Fraunhofer parallel file system, today `BeeGFS`.
    #[doc(alias = "FsMagicFHGFSFs")]
    FHGFS = 0x1983_0326, "fhgfs";
    /// IBRIX.
    #[doc(alias = "FsMagicIBRIX")]
    IBRIX = 0x0131_11A8, "ibrix";
    /// kAFS.
    #[doc(alias = "FsMagicKAFS")]
    KAFS = 0x6B41_4653, "k-afs";
    /// Lustre.
    #[doc(alias = "FsMagicLUSTRE")]
    LUSTRE = 0x0BD0_0BD0, "lustre";
    /// `NetWare`.
    #[doc(alias = "FsMagicNCP")]
    NCP = 0x0000_564C, "novell";
    /// The control files of the kernel's NFS server.
    #[doc(alias = "FsMagicNFSD")]
    NFSD = 0x6E66_7364, "nfsd";
    /// OCFS2.
    #[doc(alias = "FsMagicOCFS2")]
    OCFS2 = 0x7461_636F, "ocfs2";
    /// Panasas.
    #[doc(alias = "FsMagicPANFS")]
    PANFS = 0xAAD7_AAEA, "panfs";
    /// Parallels shared folders.
    #[doc(alias = "FsMagicPRLFS")]
    PRLFS = 0x7C7C_6673, "prl_fs";
    /// SMB 2 and 3.
    #[doc(alias = "FsMagicSMB2")]
    SMB2 = 0xFE53_4D42, "smb2";
    /// Quantum `StorNext`.
    #[doc(alias = "FsMagicSNFS")]
    SNFS = 0xBEEF_DEAD, "snfs";
    /// `VirtualBox` shared folders.
    #[doc(alias = "FsMagicVBOXSF")]
    VBOXSF = 0x786F_4256, "vboxsf";
}

/// File systems whose data is on another machine, which may therefore lack owners, attributes and atomic renames for an unprivileged user.
const NETWORK: [FsMagic; 20] = [
    FsMagic::ACFS,
    FsMagic::AFS,
    FsMagic::CEPH,
    FsMagic::CIFS,
    FsMagic::FHGFS,
    FsMagic::GPFS,
    FsMagic::IBRIX,
    FsMagic::KAFS,
    FsMagic::LUSTRE,
    FsMagic::NCP,
    FsMagic::NFS,
    FsMagic::NFSD,
    FsMagic::OCFS2,
    FsMagic::PANFS,
    FsMagic::PRLFS,
    FsMagic::SMB,
    FsMagic::SMB2,
    FsMagic::SNFS,
    FsMagic::VBOXSF,
    FsMagic::VXFS,
];

impl FsMagic {
    /// The name of the file system, as the Go drivers print it for `Backing Filesystem`; `None` for a number that is not in the table.
    #[doc(alias = "FsNames")]
    pub fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(magic, _)| *magic == self).map(|(_, name)| *name)
    }

    /// Whether the data is on another machine.
    pub fn is_network(self) -> bool {
        NETWORK.contains(&self)
    }
}

impl fmt::Display for FsMagic {
    /// The name, or the number where it has none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#010x}", self.0),
        }
    }
}

/// The file system that `path` itself lies on; at a mount point that is the mounted one.
///
/// (The Go function of this name asks the *parent* of the path, which is wrong where a home is a mount point. Pass the
/// [nearest existing directory](crate::DriverHome::nearest_dir) for a home that does not exist yet.)
///
/// # Errors
/// `Io` with `ENOENT`, `PermissionDenied` and so on, as for `statfs(2)`.
#[doc(alias = "GetFSMagic")]
pub fn fs_magic(path: impl AsRef<Path>) -> Result<FsMagic> {
    let path = path.as_ref();
    retry_on_interrupt(|| statfs(path))
        .map_err(|errno| Error::syscall("statfs", path, errno))
        .map(|stat| magic_of(&stat))
}

/// The file system that an open file lies on.
///
/// # Errors
/// As for `fstatfs(2)`; the error has no path.
pub fn fs_magic_of_fd(fd: impl AsFd) -> Result<FsMagic> {
    let fd = fd.as_fd();
    match retry_on_interrupt(|| fstatfs(fd)) {
        Ok(stat) => Ok(magic_of(&stat)),
        Err(errno) => Err(Error::call("fstatfs", errno)),
    }
}

/// File systems of another machine or program let signals interrupt this call.
pub(crate) fn retry_on_interrupt<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

fn magic_of(stat: &Statfs) -> FsMagic {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "f_type is 32 bits in a field that is wider and signed on some architectures"
    )]
    FsMagic(stat.filesystem_type().0 as u32)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs::File;

    use super::*;
    use crate::ErrorKind;

    #[test]
    fn numbers_and_names_are_each_used_once() {
        let numbers: BTreeSet<_> = NAMES.iter().map(|(magic, _)| magic).collect();
        let names: BTreeSet<_> = NAMES.iter().map(|(_, name)| name).collect();
        assert_eq!((numbers.len(), names.len()), (NAMES.len(), NAMES.len()));
    }

    #[test]
    fn known_and_unknown_are_printed() {
        assert_eq!(FsMagic::OVERLAY.to_string(), "overlayfs");
        assert_eq!(FsMagic(0xEF53).name(), Some("extfs"));
        assert_eq!(FsMagic(0xABC).name(), None);
        assert_eq!(FsMagic(0xABC).to_string(), "0x00000abc");
    }

    #[test]
    fn network_file_systems() {
        assert!(FsMagic::NFS.is_network() && FsMagic(0xFE53_4D42).is_network());
        assert!(!FsMagic::TMPFS.is_network() && !FsMagic::FUSE.is_network());
    }

    #[test]
    fn the_kernel_agrees() {
        assert_eq!(fs_magic("/dev/shm").unwrap(), FsMagic::TMPFS);
        assert_eq!(fs_magic_of_fd(File::open("/dev/shm").unwrap()).unwrap(), FsMagic::TMPFS);
        // procfs is not in the table: no home can lie there.
        assert_eq!(fs_magic("/proc/self").unwrap(), FsMagic(0x9FA0));
    }

    #[test]
    fn a_missing_path_is_named() {
        let error = fs_magic("/nonexistent/home").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(
            error.report().to_string().contains("statfs \"/nonexistent/home\": No such file"),
            "{}",
            error.report()
        );
    }
}
