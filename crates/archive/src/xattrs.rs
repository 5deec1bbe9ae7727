//! Which extended attributes are part of a layer, and the ids inside their values.

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;

use graphdriver_sys::xattr::{self, Names};
use nix::errno::Errno;

use crate::whiteout::is_overlay_xattr;

const CAPABILITY: &CStr = c"security.capability";

/// The attributes that hold POSIX ACLs (`acl(5)`): who may access, and what new files in a directory get.
pub(crate) const ACLS: [&CStr; 2] = [c"system.posix_acl_access", c"system.posix_acl_default"];

/// XFS lists each ACL a second time, in its own form and with this host's ids (`trusted.SGI_ACL_FILE`, `trusted.SGI_ACL_DEFAULT`).
pub(crate) const XFS_ACL_PREFIX: &[u8] = b"trusted.SGI_ACL_";

/// An extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Xattr {
    pub(crate) name: CString,
    pub(crate) value: Vec<u8>,
}

/// Whether an attribute is part of a layer: file capabilities, IMA hashes, POSIX ACLs, `user.*` and `trusted.*`.
///
/// Not what belongs to this mount (overlay's marks) or to this host's policy (`security.selinux`, `security.evm`).
pub(crate) fn is_portable(name: &CStr) -> bool {
    if [CAPABILITY, c"security.ima"].contains(&name) || ACLS.contains(&name) {
        return true;
    }
    let name = name.to_bytes();
    (name.starts_with(b"user.") || name.starts_with(b"trusted."))
        && !is_overlay_xattr(name)
        && !name.starts_with(XFS_ACL_PREFIX)
}

/// The portable attributes of an open file, sorted by name.
pub(crate) fn of_file(fd: impl AsFd) -> nix::Result<Vec<Xattr>> {
    of_file_and(fd, |_| false).map(|(portable, _)| portable)
}

/// The portable attributes of an open file, sorted by name, and those others that are `wanted`.
pub(crate) fn of_file_and(
    fd: impl AsFd,
    wanted: impl Fn(&CStr) -> bool,
) -> nix::Result<(Vec<Xattr>, Vec<Xattr>)> {
    let fd = fd.as_fd();
    let mut found =
        collect(xattr::flist(fd), |name| is_portable(name) || wanted(name), |name| xattr::fget(fd, name))?;
    let others = found.extract_if(.., |xattr| !is_portable(&xattr.name)).collect();
    Ok((found, others))
}

/// The portable attributes of the entry `entry` of `dir`, sorted by name.
pub(crate) fn of_entry(dir: impl AsFd, entry: &CStr) -> nix::Result<Vec<Xattr>> {
    let dir = dir.as_fd();
    collect(xattr::list_at(dir, entry), is_portable, |name| xattr::get_at(dir, entry, name))
}

fn collect(
    names: nix::Result<Names>,
    wanted: impl Fn(&CStr) -> bool,
    get: impl Fn(&CStr) -> nix::Result<Option<Vec<u8>>>,
) -> nix::Result<Vec<Xattr>> {
    let names = match names {
        Err(Errno::EOPNOTSUPP) => return Ok(Vec::new()),
        names => names?,
    };
    let mut found = Vec::new();
    for name in names.iter().filter(|name| wanted(name)) {
        // One that another process removed meanwhile is none.
        if let Some(value) = get(name)? {
            found.push(Xattr { name: name.to_owned(), value });
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// How the ids inside values change on their way to another set of maps.
pub(crate) struct IdTranslation<'a> {
    pub(crate) uid: &'a dyn Fn(u32) -> Option<u32>,
    pub(crate) gid: &'a dyn Fn(u32) -> Option<u32>,
}

impl Xattr {
    /// Whether this is a file's capabilities, which the kernel takes away when its owner changes.
    pub(crate) fn is_capability(&self) -> bool {
        self.name.as_c_str() == CAPABILITY
    }

    /// Translates the ids that the value holds: the users and groups that an ACL names, the root user that a namespaced capability counts for.
    ///
    /// A capability that ends up with root user 0 becomes one without namespace (version 2, as Docker writes it), because only such a
    /// one is right wherever the layer goes. `None` when an ACL names an id that has no translation.
    pub(crate) fn translate(mut self, ids: &IdTranslation<'_>) -> Option<Self> {
        if self.is_capability() {
            translate_capability(&mut self.value, ids);
        } else if ACLS.contains(&self.name.as_c_str()) {
            translate_acl(&mut self.value, ids)?;
        }
        Some(self)
    }
}

/// `struct vfs_ns_cap_data` of `linux/capability.h`: 20 bytes as in version 2, then the root user.
fn translate_capability(value: &mut Vec<u8>, ids: &IdTranslation<'_>) {
    const VERSION_2: u8 = 2;
    const VERSION_3: u8 = 3;
    const VERSION_AT: usize = 3;
    const ROOT_AT: usize = 20;
    let Ok::<[u8; 24], _>(bytes) = value.as_slice().try_into() else { return };
    if bytes[VERSION_AT] != VERSION_3 {
        return;
    }
    let root = u32::from_le_bytes([bytes[20], bytes[21], bytes[22], bytes[23]]);
    let root = (ids.uid)(root).unwrap_or(root);
    if root == 0 {
        value.truncate(ROOT_AT);
        value[VERSION_AT] = VERSION_2;
    } else {
        value[ROOT_AT..].copy_from_slice(&root.to_le_bytes());
    }
}

/// `linux/posix_acl_xattr.h`: a version, then entries of tag, permissions and id, all little-endian.
fn translate_acl(value: &mut [u8], ids: &IdTranslation<'_>) -> Option<()> {
    const HEADER_BYTES: usize = 4;
    const ENTRY_BYTES: usize = 8;
    const USER: u16 = 0x02;
    const GROUP: u16 = 0x08;
    let entries = value.get_mut(HEADER_BYTES..).unwrap_or_default();
    for entry in entries.chunks_exact_mut(ENTRY_BYTES) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let id = match tag {
            USER => (ids.uid)(id)?,
            GROUP => (ids.gid)(id)?,
            _ => continue,
        };
        entry[4..].copy_from_slice(&id.to_le_bytes());
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shifted() -> IdTranslation<'static> {
        IdTranslation { uid: &|id| id.checked_sub(1000), gid: &|id| id.checked_sub(2000) }
    }

    fn translated(name: &CStr, value: &[u8]) -> Option<Vec<u8>> {
        let xattr = Xattr { name: name.to_owned(), value: value.to_vec() };
        xattr.translate(&shifted()).map(|xattr| xattr.value)
    }

    #[test]
    fn overlay_and_host_attributes_stay_behind() {
        for (name, portable) in [
            (c"user.foo", true),
            (c"user.overlay.origin", false),
            (c"user.fuseoverlayfs.opaque", false),
            (c"trusted.t", true),
            (c"trusted.overlay.opaque", false),
            (c"trusted.SGI_ACL_FILE", false),
            (c"security.capability", true),
            (c"security.ima", true),
            (c"security.selinux", false),
            (c"system.posix_acl_access", true),
            (c"system.posix_acl_default", true),
            (c"system.nfs4_acl", false),
            (c"btrfs.compression", false),
        ] {
            assert_eq!(is_portable(name), portable, "{name:?}");
        }
    }

    #[test]
    fn capability_of_the_maps_root_loses_its_namespace() {
        let version_2: Vec<u8> = [&[1, 0, 0, 2][..], &[7; 16]].concat();
        let version_3 = |root: u32| [&[1, 0, 0, 3][..], &[7; 16], &root.to_le_bytes()].concat();
        for (value, expected) in [
            (version_2.clone(), version_2.clone()),
            (version_3(1000), version_2),
            (version_3(1005), version_3(5)),
            (version_3(3), version_3(3)),
            (vec![1, 2, 3], vec![1, 2, 3]),
        ] {
            assert_eq!(translated(CAPABILITY, &value).unwrap(), expected);
        }
    }

    #[test]
    fn acl_names_users_and_groups_of_the_other_side() {
        let entry = |tag: u16, id: u32| [&tag.to_le_bytes()[..], &[6, 0], &id.to_le_bytes()].concat();
        let acl = |user: u32, group: u32| {
            [
                vec![2, 0, 0, 0],
                entry(0x01, u32::MAX),
                entry(0x02, user),
                entry(0x08, group),
                entry(0x20, u32::MAX),
            ]
            .concat()
        };
        assert_eq!(translated(ACLS[0], &acl(1001, 2002)).unwrap(), acl(1, 2));
        assert_eq!(translated(ACLS[1], &acl(999, 2002)), None);
    }
}
