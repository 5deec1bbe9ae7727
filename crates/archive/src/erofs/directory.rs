//! Directories: blocks that each have a table of entries, and then the names.

use super::tree::{NodeId, Tree};
use super::{BLOCK, BLOCK_BYTES};

/// Inode number, place of the name, type and padding.
const ENTRY_BYTES: usize = 12;

/// A name in a directory, also those that no tree lists.
#[derive(Clone, Copy, Debug)]
struct Name<'a> {
    bytes: &'a [u8],
    node: NodeId,
}

/// Bytes of a directory; every block but the last counts in full.
pub(super) fn size(id: NodeId, names: &[(Box<[u8]>, NodeId)], parent: NodeId) -> u64 {
    let mut full = 0;
    let mut last = 0;
    for block in blocks(&all(id, names, parent)) {
        full += u64::from(last > 0) * BLOCK;
        last = used(block) as u64;
    }
    full + last
}

/// The bytes of a directory, as many as [`size`] says; `number` has the inode number of a node.
pub(super) fn encode(
    tree: &Tree,
    id: NodeId,
    names: &[(Box<[u8]>, NodeId)],
    parent: NodeId,
    number: impl Fn(NodeId) -> u64,
) -> Vec<u8> {
    let names = all(id, names, parent);
    let mut bytes = Vec::new();
    for block in blocks(&names) {
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        let mut at = block.len() * ENTRY_BYTES;
        for name in block {
            bytes.extend(number(name.node).to_le_bytes());
            // Less than a block.
            bytes.extend(u16::try_from(at).unwrap_or(u16::MAX).to_le_bytes());
            bytes.extend([file_type(tree.get(name.node).mode), 0]);
            at += name.bytes.len();
        }
        for name in block {
            bytes.extend(name.bytes);
        }
    }
    bytes
}

/// All names in order, `.` and `..` among them.
fn all<'a>(id: NodeId, names: &'a [(Box<[u8]>, NodeId)], parent: NodeId) -> Vec<Name<'a>> {
    let mut all: Vec<Name<'a>> = names.iter().map(|(bytes, node)| Name { bytes, node: *node }).collect();
    all.extend([Name { bytes: b".", node: id }, Name { bytes: b"..", node: parent }]);
    all.sort_unstable_by(|one, other| one.bytes.cmp(other.bytes));
    all
}

/// What goes into each block.
fn blocks<'a, 'n>(names: &'a [Name<'n>]) -> impl Iterator<Item = &'a [Name<'n>]> {
    let mut rest = names;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take_while(|name| {
            bytes += ENTRY_BYTES + name.bytes.len();
            bytes as u64 <= BLOCK
        });
        let (block, after) = rest.split_at(fits.count());
        rest = after;
        (!block.is_empty()).then_some(block)
    })
}

fn used(block: &[Name<'_>]) -> usize {
    block.iter().map(|name| ENTRY_BYTES + name.bytes.len()).sum()
}

/// The type as directories have it (`FT_REG_FILE` and so on of `linux/fs_types.h`).
fn file_type(mode: u32) -> u8 {
    match mode & nix::libc::S_IFMT {
        nix::libc::S_IFREG => 1,
        nix::libc::S_IFDIR => 2,
        nix::libc::S_IFCHR => 3,
        nix::libc::S_IFBLK => 4,
        nix::libc::S_IFIFO => 5,
        nix::libc::S_IFSOCK => 6,
        nix::libc::S_IFLNK => 7,
        _ => 0,
    }
}
