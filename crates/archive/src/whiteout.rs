//! How a layer says that something of the layers below is gone.
//!
//! In tar streams always the AUFS form, which the [OCI image specification](https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts)
//! took over: an empty file `.wh.<name>` hides `<name>`, `.wh..wh..opq` makes its directory opaque. On disk either the same (AUFS, fuse-overlayfs) or
//! the kernel's overlay form: a character device 0/0, and an xattr on the directory.

use std::ffi::CStr;

/// Prefix of a whiteout file's name.
#[doc(alias = "WhiteoutPrefix")]
pub const PREFIX: &[u8] = b".wh.";

/// Prefix of the names that AUFS keeps for itself (`.wh..wh.aufs`, `.wh..wh.orph`, `.wh..wh.plnk`) and of the opaque mark.
#[doc(alias = "WhiteoutMetaPrefix")]
pub const META_PREFIX: &[u8] = b".wh..wh.";

/// The file that makes its directory opaque: nothing of the layers below shows through.
#[doc(alias = "WhiteoutOpaqueDir")]
pub const OPAQUE: &[u8] = b".wh..wh..opq";

/// What fuse-overlayfs 1.10 leaves beside each [`OPAQUE`] that it makes: a whiteout of a part of that name, which hides nothing.
pub(crate) const FUSE_STRAY: &[u8] = b".wh..opq";

/// The attributes by which fuse-overlayfs knows an opaque directory, in its order; [`OPAQUE`] is looked for where none is set.
pub(crate) const FUSE_OPAQUE: [&CStr; 3] =
    [c"trusted.overlay.opaque", c"user.overlay.opaque", c"user.fuseoverlayfs.opaque"];

/// The directory in which AUFS keeps the contents of hard-linked files.
#[doc(alias = "WhiteoutLinkDir")]
pub const LINK_DIR: &[u8] = b".wh..wh.plnk";

/// The namespace of overlay's own extended attributes, which depends on who mounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[doc(alias = "GetOverlayXattr")]
#[doc(alias = "NeedsUserXAttr")]
pub enum OverlayXattrs {
    /// `trusted.overlay.*`: mounts made by the initial user namespace's root.
    #[default]
    Trusted,
    /// `user.overlay.*`: mounts with the option `userxattr` (Linux 5.11), all that a user namespace can make.
    User,
}

impl OverlayXattrs {
    /// The attribute that marks a directory opaque; its value is `y`.
    pub fn opaque(self) -> &'static CStr {
        match self {
            Self::Trusted => c"trusted.overlay.opaque",
            Self::User => c"user.overlay.opaque",
        }
    }

    /// The attribute that makes an empty regular file a whiteout, in a directory whose opaque mark has the value `x` (Linux 6.7).
    pub fn whiteout(self) -> &'static CStr {
        match self {
            Self::Trusted => c"trusted.overlay.whiteout",
            Self::User => c"user.overlay.whiteout",
        }
    }

    /// The attribute that says under which name a renamed directory lies in the layers below (mount option `redirect_dir`).
    pub fn redirect(self) -> &'static CStr {
        match self {
            Self::Trusted => c"trusted.overlay.redirect",
            Self::User => c"user.overlay.redirect",
        }
    }

    /// The attribute of a file of which only the metadata is in this layer (mount option `metacopy`).
    pub fn metacopy(self) -> &'static CStr {
        match self {
            Self::Trusted => c"trusted.overlay.metacopy",
            Self::User => c"user.overlay.metacopy",
        }
    }
}

/// Whether an extended attribute belongs to an overlay mount and so never travels through archives.
///
/// Covers both namespaces and fuse-overlayfs's own; such attributes in images made by other tools would hide or redirect files.
pub fn is_overlay_xattr(name: &[u8]) -> bool {
    [&b"trusted.overlay."[..], b"user.overlay.", b"user.fuseoverlayfs."]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}
