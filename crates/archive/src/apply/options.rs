//! How an archive is unpacked.

use crate::id_map::IdMaps;
use crate::root::RootDir;
use crate::whiteout::OverlayXattrs;

/// What a whiteout in the archive does to the directory that is being filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhiteoutMode {
    /// It deletes: the directory holds the layers below too, as in a copy or a snapshot of the parent, or a mounted layer.
    #[default]
    Execute,
    /// It is written down in the kernel's overlay form: the directory is the layer alone.
    Overlay(OverlayXattrs),
    /// It is kept as the archive has it, a `.wh.` file: the directory is the layer alone, for AUFS.
    Aufs,
    /// It is written down as a `.wh.` file: the directory is the layer alone, for fuse-overlayfs. Unlike [`Aufs`](Self::Aufs) entry after entry takes effect: what
    /// comes after its whiteout is there, and a directory then opaque.
    Fuse,
}

/// How `apply` unpacks.
#[derive(Clone, Debug, Default)]
#[doc(alias = "ApplyDiffOpts")]
#[doc(alias = "TarOptions")]
pub struct ApplyOptions {
    /// What whiteouts do.
    pub whiteouts: WhiteoutMode,
    /// Owners in the archive are the container's; they are stored as these maps' host ids. An owner without mapping is `InvalidArchive` unless
    /// [`ignore_chown_errors`](Self::ignore_chown_errors).
    pub id_maps: IdMaps,
    /// Keep the calling process's ids where an owner cannot be set (`EPERM`, `EINVAL`) or has no mapping: for one-id user namespaces.
    pub ignore_chown_errors: bool,
    /// Give every file this mode, leave the owner alone and note the real ones in the xattr `user.containers.override_stat`; devices and fifos become
    /// empty regular files. For file systems that cannot store owners.
    pub force_mask: Option<u32>,
    /// Block and character devices are left out, and xattrs that need privilege (`EPERM`) too: what a user namespace cannot make.
    pub in_user_namespace: bool,
    /// The directories of the layers below, uppermost first. A directory that an entry implies but the archive does not have gets
    /// mode, owner, times and xattrs from the uppermost layer that has it, so that it does not hide them. May be empty.
    pub lowers: Vec<RootDir>,
    /// Threads that write file contents, the calling one among them; 0 for as many as there are cores (at most 4). Others than the
    /// calling one start when there is work for them.
    pub threads: usize,
    /// Digest the archive on the way, by a thread of its own; [`apply_recorded`](crate::apply_recorded) always does.
    pub digest: bool,
}

/// What `apply` did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Entries of the archive, whiteouts included, PAX and GNU extension headers not.
    pub entries: u64,
    /// Sum of the sizes of all entries, as their headers say (the size that Go's `ApplyDiff` returns).
    pub bytes: u64,
    /// Of the archive itself, to its end; `None` unless asked for.
    pub archive: Option<ArchiveDigest>,
}

/// Which archive: digest and size of an uncompressed tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "UncompressedDigest")]
#[doc(alias = "DiffID")]
pub struct ArchiveDigest {
    /// SHA-256 of all its bytes.
    pub sha256: [u8; 32],
    /// How many bytes.
    pub bytes: u64,
}
