//! Extended attributes as an inode has them.

use std::ffi::CStr;

use super::tree::{Content, Node, Object};
use crate::error::{Error, ErrorKind, Result};
use crate::whiteout::OverlayXattrs;

/// A filter, the number of attributes that inodes share, and padding.
const HEAD_BYTES: usize = 12;
const UNIT: usize = 4;

/// Prefixes that are stored as a number. The names of ACLs are a prefix and nothing else.
const PREFIXES: [(u8, &[u8]); 5] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
];

/// The number of the algorithm in `struct ovl_metacopy`: `FS_VERITY_HASH_ALG_SHA256`.
const SHA256: u8 = 1;

/// The attributes of a node, as they follow its inode; empty where it has none.
///
/// # Errors
/// `NotSupported` for attributes that cannot be in an image.
pub(super) fn encode(node: &Node) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    for xattr in &node.xattrs {
        push(&mut body, &xattr.name, &xattr.value)?;
    }
    if let Content::File { object: Some(object), .. } = node.content {
        push(&mut body, OverlayXattrs::Trusted.metacopy(), &metacopy(&object))?;
        push(&mut body, OverlayXattrs::Trusted.redirect(), format!("/{}", object.path()).as_bytes())?;
    }
    if u16::try_from(body.len() / UNIT).is_err() {
        return Err(refused(&format!("{} bytes of extended attributes", body.len())));
    }
    Ok(body)
}

/// What the inode says of the length of its attributes.
pub(super) fn count(body: &[u8]) -> u16 {
    let units = body.len().saturating_sub(HEAD_BYTES) / UNIT + 1;
    if body.is_empty() { 0 } else { u16::try_from(units).unwrap_or(u16::MAX) }
}

/// Whether one of the node's attributes is an ACL.
pub(super) fn has_acl(node: &Node) -> bool {
    node.xattrs.iter().any(|xattr| xattr.name.to_bytes().starts_with(b"system.posix_acl_"))
}

fn push(body: &mut Vec<u8>, name: &CStr, value: &[u8]) -> Result<()> {
    if body.is_empty() {
        body.resize(HEAD_BYTES, 0);
    }
    let parts =
        PREFIXES.iter().find_map(|(index, prefix)| Some((index, name.to_bytes().strip_prefix(*prefix)?)));
    let (index, suffix) = parts.ok_or_else(|| refused(&format!("the extended attribute {name:?}")))?;
    let too_long = |_| refused(&format!("the extended attribute {name:?} of {} bytes", value.len()));
    let [name_len, value_len] = [u8::try_from(suffix.len()).map(u16::from), u16::try_from(value.len())]
        .map(|length| length.map_err(too_long));
    let (name_len, value_len) = (name_len?, value_len?);
    body.extend([name_len.to_le_bytes()[0], *index]);
    body.extend(value_len.to_le_bytes());
    body.extend(suffix);
    body.extend(value);
    body.resize(body.len().next_multiple_of(UNIT), 0);
    Ok(())
}

/// The mark of a file whose contents are further down (`struct ovl_metacopy`): empty, or with the digest that they must have.
fn metacopy(object: &Object) -> Vec<u8> {
    let Some(digest) = object.verity else { return Vec::new() };
    let mut mark = vec![0, 0, 0, SHA256];
    mark.extend(digest);
    mark[1] = u8::try_from(mark.len()).unwrap_or(u8::MAX);
    mark
}

fn refused(what: &str) -> Error {
    Error::new(ErrorKind::NotSupported, "write image").detail(format!("an EROFS image cannot have {what}"))
}
